// Photos from a file picker, dropped anywhere on the page, or pasted.

import { byId } from "./dom.js";

export function takeFiles(add) {
  const [picker, drop] = [byId("file"), byId("drop")];
  picker.onchange = () => {
    add([...picker.files]);
    picker.value = ""; // the same file may be taken again
  };
  let depth = 0; // of elements that the drag is over
  const show = (change) => (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    depth = change === 0 ? 0 : depth + change;
    drop.hidden = depth <= 0;
  };
  addEventListener("dragenter", show(1));
  addEventListener("dragleave", show(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    show(0)(event);
    if (event.dataTransfer?.files.length) add([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) add([...event.clipboardData.files]);
  });
}
