"use strict";
// One window at a time is asked for; what is shown is the last one that came.
const $ = (id) => document.getElementById(id);
const INKS = { // ground, off, on
  paper: [[255, 255, 255], [213, 94, 0], [0, 114, 178]],
  night: [[16, 16, 16], [240, 130, 40], [80, 180, 255]],
  signal: [[0, 0, 0], [255, 70, 70], [70, 230, 90]],
  grey: [[128, 128, 128], [0, 0, 0], [255, 255, 255]],
};
const CLASSES = [ // matplotlib's tab20
  "1f77b4", "aec7e8", "ff7f0e", "ffbb78", "2ca02c", "98df8a", "d62728", "ff9896", "9467bd", "c5b0d5",
  "8c564b", "c49c94", "e377c2", "f7b6d2", "7f7f7f", "c7c7c7", "bcbd22", "dbdb8d", "17becf", "9edae5",
];
const state = { about: null, line: null, time: 0, playing: false, last: 0, busy: false, stale: true, frame: null };

function rgba(hex) { return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)); }

function palette(name) { // packed counts (off in the low half, on in the high one) → colour
  const [ground, off, on] = INKS[name], table = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    const offs = byte & 15, ons = byte >> 4, total = offs + ons;
    const share = total ? ons / total : 0, strength = total ? Math.min(1, 0.55 + 0.15 * total) : 0;
    const [r, g, b] = [0, 1, 2].map((i) =>
      Math.round(ground[i] + (off[i] + (on[i] - off[i]) * share - ground[i]) * strength));
    table[byte] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  }
  return table;
}

function length() {
  const ms = Number($("length").value), [low, high] = state.about.lengths_us;
  return Math.min(high, Math.max(low, Math.round((ms || 20) * 1000)));
}

function clock(us) { return us >= 1e6 ? (us / 1e6).toFixed(3) + " s" : (us / 1e3).toFixed(1) + " ms"; }

function end() { return state.line && state.line.first_us !== null ? state.line.last_us - state.line.first_us : 0; }

function latest() { return Math.max(0, end() - length() + 1); } // start of the last whole window

function complain(text) { $("said").className = "error"; $("said").textContent = text; }

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

function draw() {
  if (!state.frame) return;
  const { width, height } = state.about, { said, pixels, mask } = state.frame;
  const table = palette($("colours").value), image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) words[i] = table[pixels[i]];
  $("picture").getContext("2d").putImageData(image, 0, 0);
  const shown = $("shown").checked && said.best;
  $("answer").hidden = !shown;
  $("mask").hidden = !(shown && said.mask);
  if (shown) {
    const [name, value] = said.best[0];
    $("answer").textContent = said.mask ? `${Math.round(100 * value)} % ${name}`
      : said.best.map(([n, v]) => `${n} ${v.toFixed(2)}`).join(" · ");
  }
  if (shown && said.mask) drawMask(said.mask, mask);
  $("picture").setAttribute("aria-label", `${said.on} on and ${said.off} off events` +
    (shown ? `; the run says ${$("answer").textContent}` : ""));
  $("said").className = "";
  $("said").textContent = `${said.events.toLocaleString()} events in ${clock(length())} ` +
    `(${said.on.toLocaleString()} on, ${said.off.toLocaleString()} off), ` +
    `${(said.events / length()).toFixed(3)} million a second`;
}

function drawMask([height, width], mask) {
  const canvas = $("mask"), image = new ImageData(width, height);
  canvas.width = width; canvas.height = height;
  for (let i = 0; i < mask.length; i++)
    image.data.set([...rgba(CLASSES[mask[i] % 20]), mask[i] === 255 ? 0 : 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function show() {
  if (state.busy || !state.line || state.line.first_us === null) { state.stale = true; return; }
  state.busy = true; state.stale = false;
  if (!state.frame) $("said").textContent = "Reading the first window …";
  try {
    const start = Math.round(state.line.first_us + state.time);
    const data = await (await ask(`api/frame?start=${start}&length=${length()}`)).arrayBuffer();
    const head = 4 + new DataView(data).getUint32(0, true), pixels = state.about.width * state.about.height;
    const said = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, head - 4)));
    state.frame = { said, pixels: new Uint8Array(data, head, pixels), mask: new Uint8Array(data, head + pixels) };
    draw();
  } catch (error) { pause(); complain(error.message); }
  state.busy = false;
  if (state.stale) show();
}

function seek(time) {
  state.time = Math.min(Math.max(0, time), latest());
  $("time").value = state.time;
  $("time").setAttribute("aria-valuetext", clock(state.time));
  $("clock").textContent = clock(state.time);
  $("here").style.left = `${100 * state.time / Math.max(1, end())}%`;
  $("here").style.width = `${100 * Math.min(1, length() / Math.max(1, end()))}%`;
  show();
}

function pause() { state.playing = false; $("play").textContent = "Play"; }

function play() {
  if (state.time >= latest()) state.time = 0;
  state.playing = true; state.last = performance.now(); $("play").textContent = "Pause";
  requestAnimationFrame(tick);
}

function tick(now) {
  if (!state.playing) return;
  const passed = Math.max(0, now - state.last) * 1000 * Number($("speed").value);
  state.last = now;
  if (state.time + passed >= latest()) { pause(); seek(latest()); return; }
  seek(state.time + passed);
  requestAnimationFrame(tick);
}

function drawRate({ off_on: [off, on] }) {
  const all = on.map((count, i) => count + off[i]), top = Math.max(1, ...all), n = all.length;
  const area = (counts) => "M0 100" + counts.map((count, i) => {
    const y = (100 - 98 * count / top).toFixed(1);
    return `L${(1000 * i / n).toFixed(1)} ${y}L${(1000 * (i + 1) / n).toFixed(1)} ${y}`;
  }).join("") + "L1000 100Z";
  document.querySelector("#rate .all").setAttribute("d", area(all));
  document.querySelector("#rate .on").setAttribute("d", area(on));
  const peak = top / state.line.bin_us;
  $("rate").setAttribute("aria-label",
    `Event rate over time, blue the on events; at most ${peak.toFixed(3)} million a second`);
}

function suit() { // a short recording is shown slowly, in short windows, unless its user has chosen already
  const chosen = state.playing || state.time > 0;
  if (!chosen && end() < 200000) $("length").value = Math.max(0.1, Math.round(end() / 1000) / 10);
  const speeds = [...$("speed").options].map((option) => Number(option.value));
  if (!chosen && end() < 5e6) $("speed").value = Math.max(...speeds.filter((v) => v <= 1 && end() / v >= 3e6), 0.001);
  seek(state.time);
}

async function follow() { // the timeline grows while the file is read for the first time
  const first = state.line === null || state.line.first_us === null;
  state.line = await (await ask("api/timeline")).json();
  const { events, done, error, first_us } = state.line;
  $("time").max = end();
  $("about").textContent = `${state.about.format}, ${state.about.width} × ${state.about.height} pixels, ` +
    `${events.toLocaleString()} events, ${clock(end())}` + (done ? "" : ", still being read") +
    (state.about.run ? `; run ${state.about.run}` : "");
  if (first_us !== null) drawRate(state.line);
  if (first_us !== null && first) seek(0);
  if (first_us !== null && done) suit();
  if (done && first_us === null) complain(error || "This recording has no events.");
  else if (error) complain(error);
  if (!done) setTimeout(() => follow().catch((e) => complain(e.message)), 300);
}

function change(id, by) { // the next or last choice of a list
  const list = $(id);
  list.selectedIndex = Math.min(list.options.length - 1, Math.max(0, list.selectedIndex + by));
}

function key(event) {
  const inside = event.target.closest("input, select, button");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const acts = {
    " ": () => state.playing ? pause() : play(),
    ArrowLeft: () => seek(state.time - length()), ArrowRight: () => seek(state.time + length()),
    ArrowUp: () => { $("length").value = length() / 500; seek(state.time); },
    ArrowDown: () => { $("length").value = length() / 2000; seek(state.time); },
    "<": () => change("speed", -1), ">": () => change("speed", 1),
    Home: () => seek(0), End: () => seek(latest()),
  };
  if (!acts[event.key] || (inside && inside.id !== "time") || (inside && event.key === "Home")) return;
  event.preventDefault();
  acts[event.key]();
}

async function start() {
  state.about = await (await ask("api/about")).json();
  const { name, width, height, run, segments, classes } = state.about;
  $("name").textContent = name; document.title = `${name} · evlift view`;
  const canvas = $("picture");
  canvas.width = width; canvas.height = height;
  canvas.style.width = `${Math.max(width, Math.min(640, 16 * width))}px`;
  if (matchMedia("(prefers-color-scheme: dark)").matches) $("colours").value = "night";
  $("overlay").hidden = !run;
  $("legend").hidden = !segments;
  classes.forEach((text, i) => {
    const item = document.createElement("li"), spot = document.createElement("i");
    spot.style.background = `#${CLASSES[i % 20]}`;
    item.append(spot, text); $("legend").append(item);
  });
  $("play").onclick = () => state.playing ? pause() : play();
  $("time").oninput = () => { pause(); seek(Number($("time").value)); };
  $("length").onchange = () => seek(state.time); $("colours").onchange = draw; $("shown").onchange = draw;
  document.addEventListener("keydown", key);
  await follow();
}
start().catch((error) => complain(error.message));
