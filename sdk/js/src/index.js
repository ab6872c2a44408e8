// What the package is for those who use it.

export { Device } from "./device.js";
export { Cache } from "./cache.js";
// The parts for those who drive a device themselves, and for tests of other implementations.
export { DeviceMachine } from "./machine.js";
export { slotMs, sharePoint } from "./slots.js";
export { check } from "./wire.js";
