
const KEPT = 8;
export default function ({ data: [run] }) {
  const records = (globalThis.peftRecords ??= new Map());
  records.delete(run.id);
  records.set(run.id, run);
  for (const old of [...records.keys()].slice(0, -KEPT)) records.delete(old);
  window.dispatchEvent(new CustomEvent("peft-record", { detail: run.id }));
}
