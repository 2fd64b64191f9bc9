// Puts the page together: the comparison, the choice of an evaluation, its sections, and light or dark.

const report = JSON.parse(document.getElementById("data").textContent);

function show(evaluation) {
  countIn(evaluation);
  const browser = utteranceBrowser(evaluation, report.media);
  const parts = [
    summary(evaluation),
    regimes(evaluation),
    groups(evaluation),
    training(evaluation),
    confusions(evaluation, browser.findPair),
    classes(evaluation),
    el("div", { class: "pair" }, lengths(evaluation, browser.select), calibration(evaluation)),
    boundaries(evaluation),
    browser.node,
  ];
  hideTip();
  document.getElementById("evaluation").replaceChildren(...parts.filter(Boolean));
  const sections = [...document.querySelectorAll("main section")];
  document.getElementById("contents").replaceChildren(
    ...sections.map((part) => el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)),
  );
}

function choice(evaluations) {
  const buttons = evaluations.map((evaluation) => button(evaluation.name, (event) => {
    for (const one of buttons) one.setAttribute("aria-pressed", String(one === event.currentTarget));
    show(evaluation);
  }, { "aria-pressed": String(evaluation === evaluations[0]) }));
  const place = document.getElementById("choice");
  place.append("In detail:", ...buttons);
  place.hidden = false;
}

function themeButton() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const node = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const label = () => { node.textContent = isDark() ? "Light" : "Dark"; };
  node.setAttribute("aria-label", "Switch between light and dark");
  node.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  dark.addEventListener("change", label);
  label();
}

document.getElementById("title").textContent = report.title;
themeButton();
if (report.evaluations.length > 1) {
  document.getElementById("comparison").append(comparison(report.evaluations, report.notes, report.comparisons));
  choice(report.evaluations);
} else {
  document.getElementById("comparison").append(...report.notes.map(muted));
}
show(report.evaluations[0]);
