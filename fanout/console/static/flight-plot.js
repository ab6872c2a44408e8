// Devices flipped over the seconds after the instant: as forecast, and as it came. Also written into the file of a
// flight record, where it has to stand alone.

// The record goes on for a minute after the window, for stragglers; where nobody flips any more there is nothing to see.
export function end({ forecast, samples }) {
  const grown = samples.filter((sample, index) => index > 0 && sample.active > samples[index - 1].active);
  const expected = forecast.curve_step_s * (forecast.curve.length - 1);
  return Math.max(forecast.window_s, expected, grown.at(-1)?.second ?? 0) + 5;
}

export function plotFlight(uPlot, element, flight) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const { curve, curve_step_s: step } = flight.forecast;
  const expected = new Map(curve.map((count, index) => [index * step, count]));
  const actual = new Map(flight.samples.map((sample) => [sample.second, sample.active]));
  const until = end(flight);
  const seconds = [...new Set([...expected.keys(), ...actual.keys()])].filter((s) => s <= until).sort((a, b) => a - b);
  const data = [seconds, seconds.map((s) => expected.get(s) ?? null), seconds.map((s) => actual.get(s) ?? null)];
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } };
  const options = {
    width: Math.max(280, element.clientWidth),
    height: Math.max(200, element.clientHeight - 40),
    legend: {
      live: false,
      // Each as its line is: the style sheet makes lines of them.
      markers: { width: 3, fill: "transparent", dash: (_, index) => (index === 1 ? "dashed" : "solid") },
    },
    scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(1, high)] } },
    axes: [
      { ...axis, values: (_, values) => values.map((value) => `${value} s`) },
      { ...axis, size: 64, values: (_, values) => values.map((value) => value.toLocaleString()) },
    ],
    series: [
      { label: "After the instant", value: (_, value) => (value === null ? "–" : `${value} s`) },
      { label: "Forecast", stroke: colour("--muted"), dash: [6, 4], width: 2, spanGaps: true, points: { show: false } },
      { label: "Actual", stroke: colour(flight.shadow ? "--drill" : "--live"), width: 2, spanGaps: true, points: { show: seconds.length < 90 } },
    ],
  };
  element.replaceChildren();
  return new uPlot(options, data, element);
}
