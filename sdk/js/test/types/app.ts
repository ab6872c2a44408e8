// A program a TV team would write. The compiler has to accept it as it stands.

import { Device, DeviceMachine, slotMs } from "fanout-device";

const device = new Device({
  url: "wss://gateway.example/v1/connect",
  getToken: () => fetch("/token").then((answer) => answer.text()),
  originUrl: "https://origin.example",
  topics: ["final"],
  onPrefetched: ({ campaign, rev }) => console.log(campaign, rev),
  onActivate(event) {
    const stage: string = event.stage;
    const screen = event.content === null ? null : JSON.parse(event.content);
    console.log(event.campaign, event.rev, stage, screen, event.late_ms);
  },
  onRehearse: ({ stage }) => console.log(stage),
  onCancel: ({ campaign }) => console.log(campaign),
  onClose: ({ campaign }) => console.log(campaign),
  onState({ state, retry_in_ms }) {
    if (state === "waiting") console.log(retry_in_ms);
  },
  onError: ({ kind, count }) => console.log(kind, count),
  onLog: (entry) => console.log(entry),
});
device.start();
device.unsubscribe(["final"]);
device.subscribe(["final"]);
device.wake();
console.log(device.state(), device.stats(), device.shown("final-2026"), slotMs("tv-1", 1795000000123, 60_000));
device.close();

const machine = new DeviceMachine("tv-1", { held: [], random: () => 0.5 });
const due: number | null = machine.nextDueMs();
console.log(due, machine.resume().since);
