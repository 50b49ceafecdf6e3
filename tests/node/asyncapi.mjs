// Prints what AsyncAPI's own parser has against a document, as JSON: node asyncapi.mjs FILE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Parser } = createRequire(import.meta.url)("@asyncapi/parser");
const [file] = process.argv.slice(2);
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: file });
console.log(
  JSON.stringify({
    addresses: document?.channels().all().map((channel) => channel.address()) ?? [],
    errors: diagnostics.filter((one) => one.severity === 0).map((one) => `${one.path.join(".")}: ${one.message}`),
  }),
);
