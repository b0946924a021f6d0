"use strict";
// A recording as a picture that a reader steps through. `root` holds the markup of stepper.html. `options` has the texts,
// the address of a rule and of a line of code (or null), the element whose keys count, whether the stepper asks, and the
// first step.
function stepper(root, data, options) {
  const { steps, sessions } = data, { texts } = options;
  const TOP = 60, LANE = 112, LANES = 8, FULL = 64;
  const COLOUR = { read: "--read", write: "--write", answer: "--in", close: "--bad", pause: "--bad", timeout: "--bad",
    error: "--bad", refuse: "--bad", rearm: "--now", interest: "--now" };
  // The kinds of step that a reader can filter by.
  const GROUPS = {
    calls: ["read", "write", "answer", "error"],
    events: ["poll", "batch", "event", "turn", "other"],
    interest: ["interest", "rearm"],
    states: ["state", "wait", "close", "request", "drain"],
    timeouts: ["timer", "timeout"],
    accepting: ["accept", "open", "refuse", "pause"],
  };
  const groupOf = {};
  for (const group in GROUPS) for (const kind of GROUPS[group]) groupOf[kind] = group;
  const wanted = new Set(Object.keys(GROUPS));
  const part = (name) => root.querySelector(`.${name}`);
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const css = (name) => `var(${name})`;
  let at = 0, width = 18, follow = null, quiz = options.quiz, shown = true;

  // The steps of each session, for what it was like at any step.
  const own = sessions.map(() => []);
  steps.forEach((step, index) => { if (step.session !== undefined) own[step.session].push(index); });
  function countUpTo(session, index) {
    const list = own[session];
    let low = 0, high = list.length;
    while (low < high) { const middle = (low + high) >> 1; if (list[middle] <= index) low = middle + 1; else high = middle; }
    return low;
  }
  function stateAt(session, index) {
    const count = countUpTo(session, index);
    return count ? steps[own[session][count - 1]] : null;
  }

  function element(name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // How long the poll of this step waits, in microseconds, if the wait is worth a word.
  function waits(index) {
    const waited = index + 1 < steps.length ? steps[index + 1].at - steps[index].at : 0;
    return waited >= 1000 ? waited : 0;
  }

  function isOpen(session, first, last) {
    const list = own[session];
    return list.length > 0 && list[0] <= last && list[list.length - 1] >= first;
  }
  function hasStep(session, first, last) {
    const count = countUpTo(session, last);
    return count > 0 && own[session][count - 1] >= first;
  }

  function lanes(first, last) {
    const words = part("lane-search").value.trim().toLowerCase();
    const matches = (i) => `${sessions[i].name} ${sessions[i].peer}`.toLowerCase().includes(words);
    const seen = new Set();
    if (follow !== null) seen.add(follow);
    if (steps[at].session !== undefined) seen.add(steps[at].session);
    // Sessions with a visible step come first, then those that are open.
    for (const isFirst of [hasStep, isOpen])
      for (let i = 0; i < sessions.length && seen.size < LANES; i++)
        if (matches(i) && isFirst(i, first, last)) seen.add(i);
    return [...seen].filter(matches).sort((a, b) => a - b).slice(0, LANES);
  }

  // Only the steps that are visible are drawn.
  function draw() {
    const total = Math.max(300, part("picture").clientWidth || 1200);
    // On a phone the names take less of the width.
    const LABEL = total < 480 ? 110 : 150;
    const columns = Math.floor((total - LABEL) / width);
    const first = Math.max(0, Math.min(at - (columns >> 1), steps.length - columns));
    const last = Math.min(steps.length - 1, first + columns - 1);
    const end = quiz ? at - (shown ? 0 : 1) : last;
    const x = (index) => LABEL + (index - first) * width;
    const visible = lanes(first, last);
    const height = TOP + visible.length * LANE + 20;
    const svg = element("svg", { viewBox: `0 0 ${total} ${height}`, "font-family": "system-ui, sans-serif", "font-size": 12,
      "shape-rendering": "crispEdges" });
    // The edge of the letters keeps a text readable where it crosses a line.
    const text = (parent, x, y, colour, words, more) => parent.append(element("text",
      { x, y, fill: css(colour), stroke: css("--paper"), "stroke-width": 3, "paint-order": "stroke", ...more }, words));
    const box = (parent, x, y, width, height, colour, more) => parent.append(element("rect", { x, y, width, height, fill: css(colour), ...more }));
    for (let i = first; i <= Math.min(last, end); i++)
      if (steps[i].kind === "poll")
        svg.append(element("line", { x1: x(i), x2: x(i), y1: 16, y2: height, stroke: css("--line") }));
    text(svg, 8, 36, "--ink", texts.the_loop, { "font-size": 13 });
    let free = 0, word = 0;
    for (let i = first; i <= Math.min(last, end); i++) {
      const step = steps[i];
      if (step.kind === "poll" && x(i) >= free) {
        const waited = waits(i) && i < end ? fill(texts.waits, { time: Math.round(waits(i) / 1000) }) : "";
        const room = waited ? 170 : 80, label = `${(step.at / 1000).toFixed(2)} ms${waited}`;
        // At the right border a label ends where it would begin elsewhere.
        if (x(i) + room < total) text(svg, x(i) + 2, 12, "--soft", label);
        else if (total - room >= free) text(svg, total - 4, 12, "--soft", label, { "text-anchor": "end" });
        free = x(i) + room;
      }
      if (step.kind === "poll" && waits(i) && i < end)
        for (const part of [.55, .8])
          svg.append(element("line", { x1: x(i) + width * part, x2: x(i) + width * part, y1: 16, y2: height, stroke: css("--soft"),
            "stroke-dasharray": "2 3" }));
      if (step.session === undefined || step.kind === "open" || step.kind === "close") {
        box(svg, x(i) + 1, 22, Math.max(1, width - 2), 16, COLOUR[step.kind] || (step.kind === "poll" ? "--line" : "--fill"),
          { rx: 2, opacity: isWanted(step) ? 1 : .2, ...(step.kind === "poll" && { stroke: css("--soft") }) });
        // The name of a step stands where its neighbour leaves room.
        const short = texts[`short_${step.kind}`];
        const room = short ? [...short].reduce((room, letter) => room + (letter < "\u2e80" ? 7 : 13), 0) : total;
        if (width >= 18 && x(i) >= word && x(i) + room < total) {
          word = x(i) + room;
          text(svg, x(i) + 2, 50, "--soft", short);
        }
      }
    }
    visible.forEach((session, row) => {
      const y = TOP + row * LANE, base = y + 80;
      const lane = element("g", { class: "lane" });
      box(lane, 0, y, total, LANE, "--ground", { "fill-opacity": session === follow ? 1 : 0 });
      lane.append(element("line", { x1: 0, x2: total, y1: y, y2: y, stroke: css("--line") }));
      text(lane, 8, y + 20, "--ink", sessions[session].name, { "font-size": 13 });
      const known = stateAt(session, Math.min(at, end));
      text(lane, 8, y + 38, "--soft", known ? known.state : "");
      text(lane, 8, y + 54, "--soft", known ? fill(texts.pending, { bytes: known.output }) : "");
      // A third above the mark is room for the largest answer.
      const scale = FULL / (data.high_water * 1.3);
      const mark = base - data.high_water * scale;
      const label = (y, colour, words) => text(lane, LABEL - 6, y, colour, words, { "text-anchor": "end" });
      if (LABEL === 150) label(mark + 3, "--bad", texts.high_water);
      else text(lane, total - 4, mark - 4, "--bad", texts.high_water, { "text-anchor": "end" });
      label(base + 11, "--read", "READABLE");
      label(base + 26, "--write", "WRITABLE");
      if (session === follow) text(lane, 8, y + 72, "--ink", texts.following);
      // What the session was like in each column.
      const states = [];
      for (let i = first; i <= Math.min(last, end); i++) states.push(stateAt(session, i));
      // One box for each run of columns with the same height: a page with many columns stays quick.
      const area = (tall, bottom, colour, more) => {
        let from = 0;
        states.forEach((state, column) => {
          const height = state ? tall(state) : 0;
          const next = states[column + 1];
          if (next && tall(next) === height) return;
          const wide = (column + 1 - from) * width;
          if (height && colour) box(lane, x(first + from), bottom - height, wide, height, colour, more);
          if (height && !colour && wide > 50) text(lane, x(first + from) + 2, bottom, "--ink", more);
          from = column + 1;
        });
      };
      area((state) => (state.output >= data.high_water ? LANE : 0), y + LANE, "--bad", { "fill-opacity": .12 });
      area((state) => state.output && Math.min(FULL, Math.max(1, state.output * scale)), base, "--fill", { "fill-opacity": .55 });
      area((state) => (state.interest.includes("R") ? 5 : 0), base + 9, "--read");
      area((state) => (state.interest === "W" && state.state !== "Closed" ? 1 : 0), base + 11, "", texts.not_read);
      area((state) => (state.interest.includes("W") ? 5 : 0), base + 24, "--write");
      states.forEach((state, column) => {
        if (!state) return;
        if (state.input) {
          const tall = Math.max(1, state.input * scale);
          box(lane, x(first + column), base - tall, width / 3, tall, "--in");
        }
        if (state === steps[first + column])
          lane.append(element("circle", { cx: x(first + column) + width / 2, cy: y + 10, r: Math.min(4, width / 3),
            "shape-rendering": "auto", opacity: isWanted(state) ? 1 : .2, fill: css(COLOUR[state.kind] || "--soft") }));
      });
      lane.append(element("line", { x1: LABEL, x2: total, y1: mark, y2: mark, stroke: css("--bad"), "stroke-dasharray": "4 4" }));
      lane.addEventListener("click", () => { follow = follow === session ? null : session; draw(); });
      svg.append(lane);
    });
    const hidden = sessions.length - visible.length;
    if (hidden) text(svg, 8, height - 6, "--soft", fill(texts.hidden, { count: hidden }));
    svg.append(element("rect", { x: x(at), y: 0, width, height, fill: css("--now"), "fill-opacity": .18,
      stroke: css("--now"), "stroke-width": 2 }));
    part("picture").replaceChildren(svg);
  }

  // A link, or the text alone if there is nothing to link to.
  function reference(address, text) {
    if (!address) return text;
    const link = document.createElement("a");
    link.href = address;
    link.textContent = text;
    return link;
  }

  function show() {
    const step = steps[at];
    part("where").textContent = fill(texts.place,
      { step: at + 1, count: steps.length, iteration: step.iteration, time: (step.at / 1000).toFixed(3) });
    part("told").textContent = quiz && !shown ? texts.question : step.text;
    part("forward").textContent = quiz && !shown ? texts.answer : texts.forward;
    // They would give the answers.
    for (const name of ["look", "moments"]) if (part(name)) part(name).hidden = quiz;
    const link = part("link");
    link.replaceChildren();
    if (!quiz || shown) {
      if (step.rule) link.append(reference(options.rule(step.rule), fill(texts.rule, { rule: step.rule })), texts.comma);
      link.append(reference(options.code(...step.place.split(":")), step.place));
    }
    draw();
  }

  function isWanted(step) { return wanted.has(groupOf[step.kind]); }
  // The steps to stop at: those of a followed session, of the kinds that the reader wants.
  function counts(index) { return (follow === null || steps[index].session === follow) && isWanted(steps[index]); }
  function move(by) {
    if (quiz && by > 0 && !shown) { shown = true; show(); return; }
    let next = at + by;
    while (next >= 0 && next < steps.length && !counts(next)) next += by;
    if (next < 0 || next >= steps.length) return;
    at = next;
    shown = !quiz || by < 0;
    show();
  }
  function iteration(by) {
    const from = steps[at].iteration;
    let next = at;
    while (next + by >= 0 && next + by < steps.length && steps[next].iteration === from) next += by;
    const goal = steps[next].iteration;
    if (by < 0) while (next > 0 && steps[next - 1].iteration === goal) next--;
    at = next; shown = true; show();
  }
  // To the next moment of the list. With the quiz on, the reader is asked first.
  function moment() {
    const next = listed.find((index) => index > at);
    if (next === undefined) return;
    at = next; shown = !quiz; show();
  }
  function nameQuiz() {
    part("quiz").textContent = quiz ? texts.quiz_on : texts.quiz_off;
    part("quiz").setAttribute("aria-pressed", quiz);
  }
  function toggleQuiz() { quiz = !quiz; shown = !quiz; nameQuiz(); show(); }
  function go(index) { at = Math.max(0, Math.min(steps.length - 1, index)); shown = true; show(); }

  options.keys.addEventListener("keydown", (event) => {
    // The keys of an input method are not for the page.
    if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target === part("lane-search")) { if (event.key === "Escape") event.target.blur(); return; }
    const actions = {
      ArrowRight: () => (event.shiftKey ? iteration(1) : move(1)),
      ArrowLeft: () => (event.shiftKey ? iteration(-1) : move(-1)),
      Home: () => go(0), End: () => go(steps.length - 1),
      "+": () => { width = Math.min(48, width * 1.5); draw(); },
      "-": () => { width = Math.max(2, width / 1.5); draw(); },
      q: toggleQuiz, m: moment, "/": () => part("lane-search").focus(),
    };
    if (/^[1-6]$/.test(event.key)) part("kinds").querySelectorAll("input")[event.key - 1].click();
    if (actions[event.key]) { event.preventDefault(); event.stopPropagation(); actions[event.key](); }
  });
  part("back").onclick = () => move(-1);
  part("forward").onclick = () => move(1);
  part("iteration").onclick = () => iteration(1);
  part("moment").onclick = moment;
  part("quiz").onclick = toggleQuiz;
  part("lane-search").oninput = draw;
  Object.keys(GROUPS).forEach((group, index) => {
    const box = document.createElement("input"), label = document.createElement("label");
    box.type = "checkbox";
    box.checked = true;
    box.onchange = () => { if (box.checked) wanted.add(group); else wanted.delete(group); draw(); };
    label.append(box, ` ${texts[group]}`);
    label.title = fill(texts.key, { key: index + 1 });
    part("kinds").append(label);
  });
  let drawn = 0;
  new ResizeObserver(() => {
    if (part("picture").clientWidth !== drawn) { drawn = part("picture").clientWidth; draw(); }
  }).observe(part("picture"));
  if (part("look")) part("look").textContent = data.look_for;
  if (data.dropped) {
    part("dropped").hidden = false;
    part("dropped").textContent = fill(texts.dropped, { count: data.dropped });
  }
  // The first key moment of each kind for each session. If there are more than 12, the most telling kinds stay.
  const TELLING = ["interest", "wait", "open", "error", "timeout", "pause", "refuse", "drain", "write", "turn", "state", "read", "rearm", "batch", "accept"];
  const moments = new Map();
  steps.forEach((step, index) => {
    const what = `${step.kind} ${step.session} ${step.state} ${step.interest}`;
    if (step.key && !moments.has(what)) moments.set(what, index);
  });
  const rank = (index) => TELLING.indexOf(steps[index].kind);
  const ranked = [...moments.values()].sort((a, b) => rank(a) - rank(b) || a - b);
  const listed = ranked.slice(0, 12).sort((a, b) => a - b);
  for (const index of listed) {
    const item = document.createElement("li"), button = document.createElement("button");
    button.textContent = fill(texts.step, { step: index + 1 });
    button.onclick = () => { follow = null; go(index); };
    item.append(button, ` ${steps[index].text}`);
    part("moments").querySelector("ul").append(item);
  }
  part("moments").classList.toggle("empty", !listed.length);
  part("moment").hidden = !listed.length;

  nameQuiz();
  if (steps.length) go(options.first(ranked[0] || 0));
  return { go: (index) => { if (quiz) toggleQuiz(); go(index); } };
}
