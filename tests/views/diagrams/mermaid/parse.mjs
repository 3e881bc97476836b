// Reads Mermaid texts from standard input, a JSON object by name, with Mermaid's own parser, and writes what it has read.
import { JSDOM } from "jsdom";

const { window } = new JSDOM("");
Object.assign(globalThis, { window, document: window.document });
const { default: mermaid } = await import("mermaid");

let input = "";
for await (const chunk of process.stdin) input += chunk;
const read = {};
for (const [name, text] of Object.entries(JSON.parse(input))) {
  await mermaid.parse(text);
  const { db, type } = await mermaid.mermaidAPI.getDiagramFromText(text);
  read[name] = { type, title: db.getDiagramTitle?.(), states: [...db.getStates().values()], relations: db.getRelations() };
}
process.stdout.write(JSON.stringify(read));
