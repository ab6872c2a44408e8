// The SDK as a device under `fanout check-device`: connects as the environment says, and does what it is told.
//
//   fanout check-device --encoding json -- node sdk/js/test/check-device.mjs

import WebSocket from "ws";

import { Device } from "../src/index.js";

const { FANOUT_URL, FANOUT_TOKEN, FANOUT_ORIGIN } = process.env;
const device = new Device({
  url: FANOUT_URL,
  originUrl: FANOUT_ORIGIN,
  getToken: () => FANOUT_TOKEN,
  WebSocket,
});
device.start();
