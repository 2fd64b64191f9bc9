// The sections about the whole test set, each a function from an evaluation to an element, or to null without figures.

function section(id, title, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), ...children);
}

const muted = (text) => el("p", { class: "muted" }, text);
const headline = (evaluation) => evaluation.regimes.find((regime) => regime.headline) ?? evaluation.regimes[0];

/**
 * A table of error rates with a bar and an interval for each row {name, note, per, interval, main, cells}.
 * `columns` name the further cells, which are numbers or text; above `numShown` rows the table scrolls.
 */
function rateTable(nameColumn, rows, columns = [], numShown = 12) {
  const top = Math.max(...rows.map((row) => row.interval?.[1] ?? row.per), 1e-9);
  const place = (value) => `${(100 * Math.min(value, top)) / top}%`;
  const withIntervals = rows.some((row) => row.interval);
  const bar = ({ per, interval: bounds }) => {
    const track = el("div", { class: "bar-track" }, el("div", { class: "bar-fill" }));
    track.firstChild.style.width = place(per);
    if (bounds) {
      const whisker = el("div", { class: "bar-interval" });
      whisker.style.left = place(bounds[0]);
      whisker.style.width = place(bounds[1] - bounds[0]);
      track.append(whisker);
    }
    return track;
  };
  const numeric = columns.map((_, i) => (rows.some((row) => /^\d/.test(row.cells[i])) ? "number" : null));
  const head = [
    el("th", { scope: "col" }, nameColumn),
    el("th", { scope: "col", class: "number" }, unit.rate),
    withIntervals ? el("th", { scope: "col", class: "number" }, "95 % interval") : null,
    el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "as a bar")),
    columns.map((name, i) => el("th", { scope: "col", class: numeric[i] }, name)),
  ];
  const body = rows.map((row) => el("tr", { class: row.main ? "headline" : null },
    el("th", { scope: "row" }, row.name, row.note ? el("span", { class: "note" }, row.note) : null),
    el("td", { class: "number rate" }, percent(row.per)),
    withIntervals ? el("td", { class: "number" }, interval(row.interval)) : null,
    el("td", { class: "bar" }, bar(row)),
    row.cells.map((cell, i) => el("td", { class: numeric[i] }, typeof cell === "number" ? whole(cell) : cell)),
  ));
  return el("div", { class: rows.length > numShown ? "scroll tall" : "scroll" },
    el("table", { class: "rates" }, el("thead", {}, el("tr", {}, head.flat().filter(Boolean))), el("tbody", {}, body)));
}

function comparison(evaluations, notes, comparisons) {
  const rows = evaluations.map((evaluation) => {
    const { per, interval: bounds, substitutions, insertions, deletions } = headline(evaluation);
    const aligned = evaluation.boundaries?.[0];
    return {
      name: evaluation.name,
      note: `${evaluation.corpus} ${evaluation.split}, ${evaluation.decoder}`,
      per,
      interval: bounds,
      cells: [
        substitutions,
        insertions,
        deletions,
        evaluation.parameters ?? "–",
        evaluation.training_seconds ? duration(evaluation.training_seconds) : "–",
        evaluation.times_real_time ? whole(evaluation.times_real_time) : "–",
        evaluation.pfer === null ? "–" : percent(evaluation.pfer),
        aligned ? percent(aligned.within[20], 1) : "–",
        evaluation.calibration ? fixed(evaluation.calibration.ece, 3) : "–",
      ],
    };
  });
  const columns = ["Sub.", "Ins.", "Del.", "Parameters", "Training", "× real time", "PFER", "≤ 20 ms", "ECE"];
  return section("compared", "Side by side",
    rateTable("Evaluation", rows, columns, Infinity), notes.map(muted), comparisons.map(differences));
}

/** The differences of one test set's systems, the best first, as a triangle; its significant ones are bold. */
function differences(comparison) {
  const names = comparison.systems.map((system) => system.name);
  const found = new Map(comparison.differences.map((one) => [JSON.stringify(one.systems), one]));
  const chance = (p) => (p < 0.001 ? "p < 0.001" : `p = ${fixed(p, 3)}`);
  const cell = (name, better) => {
    const one = found.get(JSON.stringify([name, better]));
    const tip = `${name} over ${better}: ${interval(one.interval)} points, ${chance(one.p_value)}, ${chance(one.p_value_corrected)} by Holm`;
    const kind = one.p_value_corrected < 0.05 ? "number significant" : "number";
    return el("td", { class: kind, ...tipped(tip) }, fixed(one.difference, 2));
  };
  const head = names.slice(0, -1).map((name, i) => el("th", { scope: "col", class: "number", title: name }, String(i + 1)));
  const rows = names.slice(1).map((name, i) => el("tr", {}, el("th", { scope: "row" }, `${i + 2} ${name}`),
    names.slice(0, -1).map((better, j) => (j <= i ? cell(name, better) : el("td")))));
  return el("div", {},
    el("h3", {}, `Differences on ${comparison.corpus} ${comparison.split}`),
    muted(`Points above the system of the column, 1 being ${names[0]}, by matched pairs; in bold p < 0.05 after Holm's correction.`),
    el("div", { class: "scroll" },
      el("table", { class: "triangle" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "System"), head)), el("tbody", {}, rows))));
}

function summary(evaluation) {
  const main = headline(evaluation);
  const seconds = evaluation.utterances.reduce((sum, utterance) => sum + utterance.duration, 0);
  const card = (title, figure, note, kind = null) => el("div", { class: kind },
    el("dt", {}, title), el("dd", { class: "figure" }, figure), note ? el("dd", { class: "note" }, note) : null);
  const aligned = evaluation.boundaries?.[0];
  const last = evaluation.training.at(-1);
  const pace = ({ epoch, updates }) => `${whole(epoch)} epochs${updates ? `, ${whole(updates)} updates` : ""}`;
  const cards = [
    card(`${unit.one} error rate`, percent(main.per), `95 % interval ${interval(main.interval)}; ${main.name}`, "main"),
    card("Corpus", `${evaluation.corpus} ${evaluation.split}`, `${whole(main.num_phones)} ${unit.many.toLowerCase()}, ${duration(seconds)}`),
    card("Utterances", whole(evaluation.utterances.length), null),
    card("Decoder", evaluation.decoder, evaluation.times_real_time ? `${whole(evaluation.times_real_time)} × real time` : null),
    evaluation.words ? card("Word error rate", percent(evaluation.words.wer), `95 % interval ${interval(evaluation.words.interval)}`) : null,
    evaluation.pfer === null ? null : card("Phonetic feature errors", percent(evaluation.pfer), "PFER"),
    aligned ? card("Boundaries within 20 ms", percent(aligned.within[20], 1), aligned.name) : null,
    evaluation.calibration
      ? card("Calibration error", fixed(evaluation.calibration.ece, 3), `ECE; ${fixed(evaluation.calibration.ece_raw, 3)} raw`)
      : null,
    last ? card("Training", duration(evaluation.training_seconds ?? last.seconds), pace(last)) : null,
    evaluation.parameters ? card("Parameters", whole(evaluation.parameters), null) : null,
  ];
  return section("summary", "Summary",
    el("dl", { class: "cards" }, cards.filter(Boolean)), el("p", { class: "muted" }, "Made by ", el("code", {}, evaluation.command)));
}

function regimes(evaluation) {
  const rows = evaluation.regimes.map((regime) => ({
    ...regime,
    note: regime.description,
    main: regime.headline,
    cells: [
      ...(evaluation.regimes.some((one) => one.interval_speakers) ? [interval(regime.interval_speakers)] : []),
      regime.substitutions, regime.insertions, regime.deletions, regime.num_phones, regime.num_utterances,
    ],
  }));
  const columns = ["Sub.", "Ins.", "Del.", "Phones", "Utterances"];
  if (rows[0].cells.length > columns.length) columns.unshift("by speaker");
  return section("regimes", "Regimes",
    muted("One set of hypotheses, scored in each way that papers use; the one in bold is the headline."),
    rateTable("Regime", rows, columns));
}

const GROUPS = { speaker: "Speaker", gender: "Gender", children: "Children and adults", age: "Age", length: "Length" };

function groups(evaluation) {
  const tables = Object.entries(GROUPS)
    .filter(([key]) => evaluation.groups[key]?.length)
    .map(([key, title]) => {
      const rows = evaluation.groups[key].map((one) => ({ name: one.group, per: one.per, cells: [one.num_phones, one.num_utterances] }));
      if (key === "speaker") rows.sort((one, other) => other.per - one.per);
      return el("div", {}, el("h3", {}, title), rateTable(title, rows, ["Phones", "Utt."]));
    });
  return tables.length ? section("groups", "Groups", el("div", { class: "columns" }, tables)) : null;
}

function training(evaluation) {
  const epochs = evaluation.training;
  const points = (key, digits) => epochs
    .filter((epoch) => Number.isFinite(epoch[key]))
    .map((epoch) => ({ x: epoch.epoch, y: epoch[key], tip: `epoch ${epoch.epoch}: ${fixed(epoch[key], digits)}` }));
  const [losses, rates] = [points("loss", 3), points("dev_per", 2)];
  const best = Math.min(...rates.map((point) => point.y));
  const climbed = (evaluation.iterations ?? []).map(({ number: x, log_likelihood: y, num_gaussians: count }) =>
    ({ x, y, tip: `iteration ${x}: ${fixed(y, 3)} nats a frame, then ${whole(count)} Gaussians` }));
  const charts = [
    climbed.length
      ? el("div", {}, el("h3", {}, "Likelihood of the training speech"),
        lineChart("Log likelihood by iteration", climbed, "iteration", "nats a frame"))
      : null,
    losses.length
      ? el("div", {}, el("h3", {}, "Loss"), lineChart("Training loss by epoch", losses, "epoch", "loss"))
      : null,
    rates.length
      ? el("div", {}, el("h3", {}, `${unit.rate} on dev, at best ${percent(best)}`),
        lineChart(`${unit.one} error rate on dev by epoch`, rates, "epoch", `${unit.rate}, %`, 1))
      : null,
  ].filter(Boolean);
  return charts.length ? section("training", "Training", el("div", { class: "columns" }, charts)) : null;
}

/** All confusions, deletions and insertions that occur: {reference, hypothesis, count, share of the reference label}. */
function confusionList({ labels, counts, deletions, insertions }) {
  const found = [];
  const add = (reference, hypothesis, count, total) => {
    if (count > 0) found.push({ reference, hypothesis, count, share: total && (100 * count) / total });
  };
  labels.forEach((reference, i) => {
    const total = counts[i].reduce((sum, count) => sum + count, deletions[i]);
    labels.forEach((hypothesis, j) => { if (i !== j) add(reference, hypothesis, counts[i][j], total); });
    add(reference, null, deletions[i], total);
    add(null, reference, insertions[i], null);
  });
  return found.sort((one, other) => other.count - one.count);
}

function confusions(evaluation, findPair) {
  const { labels, counts, deletions, insertions } = evaluation.confusions;
  const say = (row, column) => {
    if (row === labels.length) return `${labels[column]} inserted: ${whole(insertions[column])}`;
    const total = counts[row].reduce((sum, count) => sum + count, deletions[row]);
    const count = column === labels.length ? deletions[row] : counts[row][column];
    const what = column === labels.length ? `${labels[row]} deleted` : `${labels[row]} → ${labels[column]}`;
    return `${what}: ${whole(count)} of ${whole(total)}${total ? ` (${percent((100 * count) / total, 1)})` : ""}`;
  };
  const choose = (row, column) => findPair(labels[row] ?? null, labels[column] ?? null);
  const rows = confusionList(evaluation.confusions).slice(0, 20).map((one) => el("tr", {},
    el("td", {}, button(pairText(one.reference, one.hypothesis), () => findPair(one.reference, one.hypothesis), { title: "List the utterances" })),
    el("td", {}, one.reference === null ? "inserted" : one.hypothesis === null ? "deleted" : "substituted"),
    el("td", { class: "number" }, whole(one.count)),
    el("td", { class: "number" }, one.share === null ? "–" : percent(one.share, 1)),
  ));
  const head = ["Pair", "Kind", "Count", "Of the phone"].map((name, i) => el("th", { scope: "col", class: i > 1 ? "number" : null }, name));
  return section("confusions", "Confusions", el("div", { class: "map-and-list" },
    el("div", {},
      muted("Rows: what was said. Columns: what was recognised. The stronger the colour, the larger the share of the row. Arrow keys move, Enter lists the utterances."),
      heatMap("Confusion counts", evaluation.confusions, say, choose)),
    el("div", {}, el("h3", {}, "Most frequent errors"),
      el("div", { class: "scroll tall" }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)))),
  ));
}

function classes(evaluation) {
  const table = (title, rows) => rows?.length
    ? el("div", {}, el("h3", {}, title), rateTable(title,
      rows.map((row) => ({ name: row.group, per: row.per, cells: [row.num_phones, row.most_confused_with ?? "–"] })),
      ["Phones", "Most often taken for"]))
    : null;
  const tables = [table("Manner", evaluation.classes.manner), table("Place", evaluation.classes.place)].filter(Boolean);
  return tables.length ? section("classes", "Manner and place", el("div", { class: "columns" }, tables)) : null;
}

function lengths(evaluation, select) {
  const points = evaluation.utterances.map((utterance) => ({
    x: utterance.duration,
    y: utterance.per,
    tip: `${utterance.id}: ${unit.rate} ${percent(utterance.per, 1)}, ${fixed(utterance.duration, 1)} s`,
    onclick: () => select(utterance),
  }));
  return section("lengths", "Error against length", muted("A point is an utterance; a click opens it below."),
    scatter(`${unit.one} error rate of each utterance by its duration`, points, "seconds", `${unit.rate}, %`));
}

function calibration(evaluation) {
  const fit = evaluation.calibration;
  if (fit === null) return null;
  const series = [{ name: "calibrated", bins: fit.bins }, { name: "raw posterior", bins: fit.bins_raw }];
  return section("calibration", "Confidence",
    muted("On the dashed line a confidence is right as often as it says; a larger point stands for more phones."),
    legend([`calibrated, ECE ${fixed(fit.ece, 3)}`, `raw posterior, ECE ${fixed(fit.ece_raw, 3)}`]),
    reliability("Share of right phones by confidence", series));
}

function boundaries(evaluation) {
  const reports = evaluation.boundaries;
  if (!reports?.length) return null;
  const head = ["Times from", "≤ 10 ms", "≤ 20 ms", "≤ 50 ms", "Mean", "Median", "Boundaries"]
    .map((name, i) => el("th", { scope: "col", class: i ? "number" : null }, name));
  const number = (text) => el("td", { class: "number" }, text);
  const rows = reports.map((report) => el("tr", {}, el("th", { scope: "row" }, report.name),
    [10, 20, 50].map((limit) => number(percent(report.within[limit], 1))),
    [report.mean_ms, report.median_ms].map((value) => number(`${fixed(value, 1).replace("-", "−")} ms`)),
    number(whole(report.num_boundaries))));
  const series = reports.map(({ name, histogram: { edges_ms: edges, counts } }) => ({ name, edges, counts }));
  return section("boundaries", "Boundaries",
    muted("Recognised minus reference time: right of zero is late."),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))),
    el("h3", {}, "Distribution"), legend(reports.map((report) => report.name)),
    histogram("Distribution of boundary errors", series, "error, ms"));
}
