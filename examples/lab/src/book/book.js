const [texts, stepperTexts] = JSON.parse(document.getElementById("texts").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const isNarrow = matchMedia("(max-width: 62rem)").matches;

// The recordings, each a few steps before its most telling moment.
const steppers = {};
for (const figure of all("figure.stepper")) {
  const name = figure.dataset.scene;
  figure.append(document.getElementById("stepper").content.cloneNode(true));
  steppers[name] = stepper(figure, JSON.parse(document.querySelector(`[data-recording="${name}"]`).textContent), {
    texts: stepperTexts,
    rule: (rule) => `#rule-${rule}`,
    code: (path, line) => `${path}.html#L${line}`,
    keys: figure, quiz: true,
    first: (best) => Math.max(0, best - 3),
  });
}
for (const link of all("a.seen"))
  link.onclick = () => steppers[link.hash.slice("#scene-".length)].go(Number(link.dataset.step));

for (const box of all(".removed"))
  box.onchange = () => box.closest(".program").classList.toggle("shows-removed", box.checked);

// On a small screen the text comes first.
if (isNarrow) for (const details of all("#contents, .program")) details.open = false;
// The target of a link may be folded in.
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView();
  if (target.matches(".stepper")) target.focus({ preventScroll: true });
}
addEventListener("hashchange", () => { unfold(); follow(); });
if (location.hash) unfold();
// Paper has no folds.
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("main details:not([open])");
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => { for (const details of folded) details.open = false; });

// The contents follow the text, and a link to another edition leads to the place that is on the screen.
const side = document.querySelector(".side");
const entries = all("#contents nav a").map((link) => ({ link, heading: document.getElementById(decodeURIComponent(link.hash.slice(1))) }));
let current = null;
function follow() {
  const above = entries.filter(({ heading }) => heading.getBoundingClientRect().top < innerHeight / 4);
  const { link } = above[above.length - 1] || entries[0];
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.getBoundingClientRect();
  const isSeen = target && target.bottom > 0 && target.top < innerHeight;
  for (const edition of all(".editions a")) edition.hash = isSeen ? location.hash : link.hash;
  if (link === current) return;
  if (current) current.removeAttribute("aria-current");
  current = link;
  link.setAttribute("aria-current", "location");
  const [box, place] = [side.getBoundingClientRect(), link.getBoundingClientRect()];
  if (place.top < box.top || place.bottom > box.bottom) side.scrollTop += place.top - box.top - box.height / 3;
}
let isDue = false;
addEventListener("scroll", () => {
  if (!isDue) requestAnimationFrame(() => { isDue = false; follow(); });
  isDue = true;
}, { passive: true });
follow();

// The search: every word must be in the same paragraph, row or line. Its index is made with the first word.
const search = document.getElementById("search"), results = document.getElementById("results"), MOST = 40;
const UNITS = ".prose :is(h2, h3, p, li, tr, summary, pre, figcaption), .listing .l:not(.old)";
let places = null;
function index() {
  return all(UNITS).filter((unit) => !unit.querySelector("p, li, tr, summary") && !unit.closest(".controls, .more, .moments"))
    .map((unit) => {
      const text = unit.textContent.replace(/^\d+(?=\S|\s)/, unit.matches(".l") ? "" : "$&").trim();
      return { unit, text, small: text.toLowerCase(), rank: unit.matches("h2, h3") ? 0 : unit.matches(".l") ? 2 : 1 };
    });
}
function excerpt(text, words) {
  const at = Math.max(0, text.toLowerCase().indexOf(words[0]) - 40), part = document.createElement("span");
  const shown = (at ? "…" : "") + text.slice(at, at + 140) + (at + 140 < text.length ? "…" : "");
  const small = shown.toLowerCase();
  let end = 0;
  while (end < shown.length) {
    const hits = words.map((word) => [small.indexOf(word, end), word.length]).filter(([start]) => start >= 0).sort((a, b) => a[0] - b[0]);
    const [start, length] = hits[0] || [shown.length, 0];
    part.append(shown.slice(end, start));
    if (length) part.append(Object.assign(document.createElement("mark"), { textContent: shown.slice(start, start + length) }));
    end = start + Math.max(1, length);
  }
  return part;
}
function find() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), note = document.getElementById("found");
  results.hidden = !words.length;
  results.replaceChildren();
  if (!words.length) { note.textContent = ""; return; }
  places ||= index();
  const hits = places.filter(({ small }) => words.every((word) => small.includes(word))).sort((a, b) => a.rank - b.rank);
  note.textContent = !hits.length ? texts.found_nothing
    : texts.found.replace("{count}", hits.length) + (hits.length > MOST ? ` ${texts.found_more.replace("{count}", MOST)}` : "");
  hits.slice(0, MOST).forEach(({ unit, text }, number) => {
    unit.id ||= `found-${places.findIndex((place) => place.unit === unit)}`;
    const item = document.createElement("li"), link = document.createElement("a"), title = document.createElement("b");
    title.textContent = unit.closest(".program")?.id || unit.closest(".chapter").querySelector("h1, h2").textContent;
    link.href = `#${unit.id}`;
    // The same place again is no change of the address.
    link.onclick = () => setTimeout(unfold);
    link.append(title, excerpt(text, words));
    item.append(link);
    results.append(item);
  });
}
// What an input method composes is no word yet.
search.oninput = (event) => { if (!event.isComposing) find(); };
search.addEventListener("compositionend", find);
document.querySelector("[role=search]").addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const links = all("a", results), at = links.indexOf(document.activeElement);
  if (event.key === "Escape") { search.value = ""; find(); search.blur(); }
  if (event.key === "ArrowDown" && links[at + 1]) { event.preventDefault(); links[at + 1].focus(); }
  if (event.key === "ArrowUp" && at >= 0) { event.preventDefault(); (links[at - 1] || search).focus(); }
});

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input")) return;
  if (event.key === "/") { event.preventDefault(); search.focus(); }
  const by = { "[": -1, "]": 1 }[event.key];
  if (!by) return;
  const chapters = all(".chapter"), start = chapters.findIndex((chapter) => chapter.getBoundingClientRect().bottom > 40);
  chapters[Math.max(0, Math.min(chapters.length - 1, start + by))].scrollIntoView();
});
