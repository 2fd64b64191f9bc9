// Charts in SVG, each drawn as wide as its place is, and drawn again when that changes.

const MARGIN = { left: 48, right: 14, top: 10, bottom: 40 };

/** A place for a chart: `draw(width)` returns the SVG element. */
function chart(label, draw) {
  const place = el("div", { class: "chart", role: "img", "aria-label": label });
  let drawn = 0;
  new ResizeObserver(() => {
    requestAnimationFrame(() => {
      const width = Math.floor(place.clientWidth);
      if (width === 0 || width === drawn) return;
      drawn = width;
      place.replaceChildren(draw(width));
    });
  }).observe(place);
  return place;
}

/** A round step that goes from low to high in about `count`. */
function stepBetween(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
}

/** Round numbers from low to high, about `count` of them. */
function ticks(low, high, count) {
  const step = stepBetween(low, high, count);
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) values.push(k * step);
  return values;
}

/** Round numbers around all values, to begin and end an axis on. */
function rangeOf(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const step = stepBetween(low, high, 5);
  const start = Math.floor(low / step + 1e-9) * step;
  return [start, Math.max(Math.ceil(high / step - 1e-9) * step, start + step)];
}

const plain = (value) => String(Number(value.toPrecision(4))).replace("-", "−");

/** Axes for a chart `width` wide: {frame, x, y}, where x and y turn values into pixels. */
function axes(width, height, [x0, x1], [y0, y1], xLabel, yLabel) {
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const x = (value) => MARGIN.left + ((value - x0) / (x1 - x0)) * (right - MARGIN.left);
  const y = (value) => bottom - ((value - y0) / (y1 - y0)) * (bottom - MARGIN.top);
  const frame = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  for (const value of ticks(y0, y1, 5)) {
    frame.append(
      svg("path", { class: "grid", d: `M${MARGIN.left} ${y(value)}H${right}` }),
      svg("text", { class: "tick", x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, plain(value)),
    );
  }
  for (const value of ticks(x0, x1, Math.max(3, Math.min(10, width / 70)))) {
    frame.append(
      svg("path", { class: "axis", d: `M${x(value)} ${bottom}v4` }),
      svg("text", { class: "tick", x: x(value), y: bottom + 16, "text-anchor": "middle" }, plain(value)),
    );
  }
  const middle = (MARGIN.top + bottom) / 2;
  frame.append(
    svg("path", { class: "axis", d: `M${MARGIN.left} ${bottom}H${right}` }),
    svg("text", { x: (MARGIN.left + right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    svg("text", { transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" }, yLabel),
  );
  return { frame, x, y };
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function legend(names) {
  return el("ul", { class: "legend" }, names.map((name, i) => el("li", { class: `series-${i % 5}` }, name)));
}

/** One curve through points {x, y, tip}, from zero up. */
function lineChart(label, points, xLabel, yLabel, series = 0) {
  const xs = points.map((point) => point.x);
  const below = points.every((point) => point.y < 0); // logarithms: 0 means nothing among them
  const heights = rangeOf([...(below ? [] : [0]), ...points.map((point) => point.y)]);
  const range = [Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1)];
  return chart(label, (width) => {
    const { frame, x, y } = axes(width, 240, range, heights, xLabel, yLabel);
    const group = svg("g", { class: `series-${series}` });
    group.append(svg("path", { class: "curve", d: path(points.map((point) => [x(point.x), y(point.y)])) }));
    const radius = points.length > 60 ? 2 : 3.5;
    for (const point of points) {
      group.append(svg("circle", { class: "point", cx: x(point.x), cy: y(point.y), r: radius, ...tipped(point.tip) }));
    }
    frame.append(group);
    return frame;
  });
}

/** Points {x, y, tip, onclick}. */
function scatter(label, points, xLabel, yLabel) {
  const widths = rangeOf(points.map((point) => point.x));
  const heights = rangeOf([0, ...points.map((point) => point.y)]);
  return chart(label, (width) => {
    const { frame, x, y } = axes(width, 380, widths, heights, xLabel, yLabel);
    const radius = points.length > 500 ? 2.5 : 4;
    for (const point of points) {
      const place = { cx: x(point.x).toFixed(1), cy: y(point.y).toFixed(1), r: radius };
      frame.append(svg("circle", { class: "point series-0", ...place, onclick: point.onclick, ...tipped(point.tip) }));
    }
    return frame;
  });
}

/** Outlines of several histograms {name, edges, counts}, each as a share of its own total. */
function histogram(label, series, xLabel) {
  const shares = series.map(({ counts }) => {
    const total = counts.reduce((sum, count) => sum + count, 0) || 1;
    return counts.map((count) => (100 * count) / total);
  });
  const edges = series.flatMap((one) => one.edges);
  const range = [Math.min(...edges), Math.max(...edges)];
  const heights = rangeOf([0, ...shares.flat()]);
  return chart(label, (width) => {
    const { frame, x, y } = axes(width, 280, range, heights, xLabel, "% of boundaries");
    frame.append(svg("path", { class: "dashed", d: `M${x(0)} ${y(0)}V${y(heights[1])}` }));
    series.forEach((one, i) => {
      const steps = shares[i].flatMap((share, k) => [
        [x(one.edges[k]), y(share)],
        [x(one.edges[k + 1]), y(share)],
      ]);
      const outline = path([[x(one.edges[0]), y(0)], ...steps, [x(one.edges.at(-1)), y(0)]]);
      const group = svg("g", { class: `series-${i % 5}` });
      group.append(svg("path", { class: "area", d: `${outline}Z` }), svg("path", { class: "curve", d: outline }));
      frame.append(group);
    });
    return frame;
  });
}

/** Confidence against accuracy for several lists of bins; a point's area grows with the bin's share of the phones. */
function reliability(label, series) {
  return chart(label, (width) => {
    const size = Math.min(width, 420);
    const { frame, x, y } = axes(size, size, [0, 1], [0, 1], "confidence", "share that was right");
    frame.append(svg("path", { class: "dashed", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }));
    series.forEach(({ name, bins }, i) => {
      const filled = bins.filter((bin) => bin.count > 0);
      const total = filled.reduce((sum, bin) => sum + bin.count, 0);
      const group = svg("g", { class: `series-${i}` });
      group.append(svg("path", { class: "curve", d: path(filled.map((bin) => [x(bin.confidence), y(bin.accuracy)])) }));
      for (const bin of filled) {
        const right = `${fixed(100 * bin.accuracy, 1)} % right at confidence ${fixed(bin.confidence, 2)}`;
        const text = `${name}: ${right}, ${whole(bin.count)} phones`;
        const place = { cx: x(bin.confidence), cy: y(bin.accuracy), r: 3 + 9 * Math.sqrt(bin.count / total) };
        group.append(svg("circle", { class: "point", ...place, ...tipped(text) }));
      }
      frame.append(group);
    });
    return frame;
  });
}

/**
 * Counts of confusions: a row for each reference label and one of insertions, a column for each recognised label and
 * one of deletions. `say(row, column)` describes a cell, and `choose(row, column)` is called to list its utterances.
 */
function heatMap(label, { labels, counts, deletions, insertions }, say, choose) {
  const size = labels.length + 1;
  const cells = [...counts.map((row, i) => [...row, deletions[i]]), [...insertions, 0]];
  const totals = cells.map((row) => row.reduce((sum, count) => sum + count, 0));
  const names = { rows: [...labels, "ins"], columns: [...labels, "del"] };
  const readout = el("span", { role: "status" }, "Choose a cell.");
  const list = button("List the utterances", () => choose(...at), { disabled: true });
  const place = el("div", { class: "scroll", tabindex: 0, role: "application", "aria-label": label });
  const gutter = 46;
  let at = null; // row and column of the cursor
  let cell = 0; // pixels
  const cursor = svg("rect", { class: "cursor", visibility: "hidden" });

  function show(row, column) {
    at = [row, column];
    assign(cursor, { x: gutter + column * cell, y: gutter + row * cell, width: cell, height: cell, visibility: "visible" });
    readout.textContent = say(row, column);
    list.disabled = cells[row][column] === 0;
  }
  const isCell = (row, column) => Math.min(row, column) >= 0 && Math.max(row, column) < size && row + column < 2 * size - 2;
  function cellAt(event) {
    const box = place.firstChild.firstChild.getBoundingClientRect();
    const [column, row] = [event.clientX - box.left, event.clientY - box.top].map((v) => Math.floor((v - gutter) / cell));
    return isCell(row, column) ? [row, column] : null;
  }
  function draw(width) {
    cell = Math.max(14, Math.min(22, (width - gutter - 2) / size));
    const span = gutter + size * cell + 2;
    const frame = svg("svg", { width: span, height: span });
    names.rows.forEach((name, i) => {
      const y = gutter + (i + 0.5) * cell;
      frame.append(svg("text", { class: "tick", x: gutter - 4, y: y + 4, "text-anchor": "end" }, name));
      frame.append(svg("text", { class: "tick", transform: `translate(${y + 4} ${gutter - 4}) rotate(-90)` }, names.columns[i]));
    });
    frame.append(svg("path", { class: "grid", d: `M${gutter} ${gutter}h${size * cell}v${size * cell}h${-size * cell}z` }));
    cells.forEach((row, i) => row.forEach((count, j) => {
      if (count === 0) return;
      const opacity = (0.12 + 0.88 * Math.sqrt(count / totals[i])).toFixed(3);
      const corner = { x: gutter + j * cell + 0.5, y: gutter + i * cell + 0.5, width: cell - 1, height: cell - 1 };
      frame.append(svg("rect", { class: i === j ? "right-cell" : "wrong-cell", "fill-opacity": opacity, ...corner }));
    }));
    frame.append(svg("path", { class: "axis", d: `M${gutter} ${span - 2 - cell}h${size * cell}M${span - 2 - cell} ${gutter}v${size * cell}` }));
    frame.append(cursor);
    if (at) show(...at);
    return frame;
  }

  place.append(chart(label, draw));
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  assign(place, {
    onpointermove: (event) => {
      const found = cellAt(event);
      if (found) showTip(say(...found), event);
      else hideTip();
    },
    onpointerleave: hideTip,
    onclick: (event) => {
      const found = cellAt(event);
      if (found) show(...found);
    },
    onkeydown: (event) => {
      if (event.key === "Enter" && !list.disabled) choose(...at);
      if (!(event.key in moves)) return;
      event.preventDefault();
      const [row, column] = at ?? [0, -1];
      const [down, right] = moves[event.key];
      if (isCell(row + down, column + right)) show(row + down, column + right);
    },
  });
  return el("div", {}, place, el("p", { class: "readout" }, readout, list));
}
