// The page of a flight record.

import { FlightChart } from "/static/chart.js";

const flight = JSON.parse(document.getElementById("flight-data").textContent);
new FlightChart(document.getElementById("flight-plot")).show(flight);
