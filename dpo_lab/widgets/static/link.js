// A set-up in the address of the page, behind "#play?": written, and read with suspicion.

const START = "#play?";
const LONGEST = 1000;
const NUMBER = /^-?\d+(\.\d+)?(e-?\d+)?$/;

export function inside(low, high, whole = false) {
  return (text) => {
    const value = NUMBER.test(text) ? Number(text) : NaN;
    return value >= low && value <= high && (!whole || Number.isInteger(value)) ? value : undefined;
  };
}

export function among(words) {
  return (text) => words.find((word) => word === text);
}

export function listOf(length, read) {
  return (text) => {
    const values = text.split(",").map(read);
    return values.length === length && !values.includes(undefined) ? values : undefined;
  };
}

export function writeLink(values) {
  return START + Object.entries(values).map(([name, value]) => `${name}=${value}`).join("&");
}

// { values, ignored } for a link, null for any other address. `readers` has a function for each
// name, from text to a value or undefined.
export function readLink(address, readers) {
  if (!address.startsWith(START)) return null;
  if (address.length > LONGEST) return { values: {}, ignored: ["a link of this length"] };
  const [values, ignored] = [{}, []];
  for (const [name, text] of new URLSearchParams(address.slice(START.length))) {
    const value = Object.hasOwn(readers, name) ? readers[name](text) : undefined;
    if (value === undefined || Object.hasOwn(values, name)) ignored.push(name.slice(0, 20));
    else values[name] = value;
  }
  return { values, ignored };
}
