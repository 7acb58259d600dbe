"use strict";
// Players show embedded frames; everything else on the page works without this script.
for (const box of document.querySelectorAll(".player")) {
  const frames = JSON.parse(box.querySelector("script").textContent);
  const slider = box.querySelector("input"), button = box.querySelector("button"), said = box.querySelector(".said");
  let timer = null;
  const show = (place) => {
    const frame = frames[place];
    slider.value = place;
    slider.setAttribute("aria-valuetext", frame.said);
    said.textContent = frame.said;
    box.querySelectorAll("img").forEach((image, i) => { image.src = frame.images[i]; });
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
  const step = () => {
    const next = Number(slider.value) + 1;
    if (next < frames.length) show(next); else stop();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (Number(slider.value) >= frames.length - 1) show(0);
    button.textContent = "Pause";
    timer = setInterval(step, 250);
  });
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  show(0);
}
for (const box of document.querySelectorAll("input[data-only]")) {
  const table = document.querySelector("table.config");
  const change = () => table.classList.toggle("only", box.checked);
  box.closest("label").hidden = false;
  box.addEventListener("change", change);
  change();
}
