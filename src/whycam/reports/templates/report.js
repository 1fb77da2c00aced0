// Opacity, filters and order of the images. Without this script every image is shown, at the usual opacity.
"use strict";
const controls = document.querySelector(".controls");
if (controls) {
  const box = document.querySelector(".images");
  const all = [...box.children].map((image, place) => ({
    image, place, name: image.dataset.name, kind: image.dataset.kind, numbers: JSON.parse(image.dataset.numbers),
    maps: [...image.querySelectorAll(".map")],
  }));
  const field = (name) => controls.elements[name];

  const fade = () => document.documentElement.style.setProperty("--opacity", field("opacity").value / 100);

  const choose = () => {
    const kind = field("kind").value, status = field("status").value, least = field("least").valueAsNumber;
    let shown = 0;
    for (const each of all) {
      let maps = 0;
      for (const map of each.maps) {
        const other = kind !== "" && map.dataset.kind !== "" && map.dataset.kind !== kind;
        map.hidden = other || (status !== "" && map.dataset.status !== status);
        maps += !map.hidden;
      }
      each.image.hidden = !maps || (kind !== "" && each.maps.every((map) => map.dataset.kind !== kind))
        || (!Number.isNaN(least) && !(each.numbers.score >= least));
      shown += !each.image.hidden;
    }
    const images = all.length === 1 ? "1 image" : `${all.length} images`;
    field("shown").value = shown === all.length ? images : `${shown} of ${images}`;
  };

  const before = (order) => {
    if (order === "") return () => 0;
    if (order === "name" || order === "kind") return (a, b) => a[order].localeCompare(b[order]);
    const sign = order[0] === "-" ? -1 : 1, name = order.slice(1);
    const value = (each) => (name in each.numbers ? sign * each.numbers[name] : Infinity); // what has none stands last
    return (a, b) => (value(a) === value(b) ? 0 : value(a) - value(b));
  };
  const sort = () => {
    const compare = before(field("order").value);
    box.append(...[...all].sort((a, b) => compare(a, b) || a.place - b.place).map((each) => each.image));
  };

  field("opacity").addEventListener("input", fade);
  field("order").addEventListener("change", sort);
  for (const name of ["kind", "status", "least"]) field(name).addEventListener("input", choose);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;
  fade(); // a browser may have kept where the controls were
  choose();
  sort();
}
