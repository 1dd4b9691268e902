import { meanLoss } from "./pair.js";

// Steepest descent in steps of a fixed length, halved where a step would go up. It ends where no
// step goes down ("rest"), where |a| or |b| passes `edge` ("left"), or after `most` steps ("long").
export function descentPath(setting, pair, edge, most = 600) {
  const path = [[pair.a, pair.b]];
  let here = pair;
  let { loss, da, db } = meanLoss(setting, pair);
  let length = edge / 100;
  while (path.length <= most) {
    const steep = Math.hypot(da, db);
    if (!(steep > 0) || length < 1e-9 * edge) return { path, end: "rest" };
    const next = { ...here, a: here.a - (length * da) / steep, b: here.b - (length * db) / steep };
    const there = meanLoss(setting, next);
    if (there.loss < loss) {
      here = next;
      ({ loss, da, db } = there);
      path.push([here.a, here.b]);
      if (Math.max(Math.abs(here.a), Math.abs(here.b)) > edge) return { path, end: "left" };
    } else length /= 2;
  }
  return { path, end: "long" };
}
