// Shows the OpenAPI document that lies beside this page. Everything in it is put on the page as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const ADDITIONAL = "x-additional-operations";

/** An element with attributes and children; `text` children are text whatever they hold. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return made;
}

/** A line of text with `code` in backticks. */
function line(text) {
  return text.split(/(`[^`]+`)/).map((part) =>
    part.length > 2 && part.startsWith("`") && part.endsWith("`") ? element("code", {}, part.slice(1, -1)) : part);
}

/** Paragraphs and lists of a description. */
function prose(text) {
  const box = element("div", { class: "text" });
  for (const block of (text ?? "").replaceAll("&lt;", "<").split(/\n{2,}/).filter(Boolean)) {
    const items = block.split("\n");
    if (items.every((item) => item.startsWith("- "))) {
      box.append(element("ul", {}, items.map((item) => element("li", {}, line(item.slice(2))))));
    } else {
      box.append(element("p", {}, line(items.join(" "))));
    }
  }
  return box;
}

const spec = { document: {} };

/** What a `$ref` leads to, with what stands beside it. */
function resolve(schema) {
  if (typeof schema?.$ref !== "string") return schema ?? {};
  const steps = schema.$ref.slice(2).split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  const { $ref, ...beside } = schema;
  return { ...steps.reduce((at, step) => at?.[step], spec.document), ...beside };
}

const nameOf = (schema) => (typeof schema?.$ref === "string" ? schema.$ref.split("/").pop() : undefined);
const shortName = (name) => name.split(".").pop().replace(/-Input$/, "");

function typeOf(schema) {
  const name = nameOf(schema);
  if (name) return shortName(name);
  if (schema.type === "array") return `list of ${typeOf(schema.items ?? {})}`;
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return `map of ${typeOf(schema.additionalProperties)}`;
  }
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const format = schema.format ?? schema.contentEncoding;
  return [schema.type ?? "anything", format && `(${format})`].filter(Boolean).join(" ");
}

function rulesOf(schema) {
  if (schema.anyOf) return schema.anyOf.map(rulesOf).filter(Boolean).join("; ");
  const wide = ["int32", "uint32"].includes(schema.format);
  const full = (schema.format === "int32" && schema.minimum === -2147483648 && schema.maximum === 2147483647)
    || (schema.format === "uint32" && schema.minimum === 0 && schema.maximum === 4294967295);
  const rules = [];
  const between = (low, high, unit) => {
    if (low === undefined && high === undefined) return;
    if (low === high) rules.push(`exactly ${low}${unit}`);
    else if (high === undefined) rules.push(`at least ${low}${unit}`);
    else if (low === undefined) rules.push(`at most ${high}${unit}`);
    else rules.push(`${low} to ${high}${unit}`);
  };
  between(schema.minLength, schema.maxLength, " characters");
  if (!(wide && full)) between(schema.minimum, schema.maximum, "");
  if (schema.exclusiveMinimum !== undefined) rules.push(`more than ${schema.exclusiveMinimum}`);
  if (schema.exclusiveMaximum !== undefined) rules.push(`less than ${schema.exclusiveMaximum}`);
  between(schema.minItems, schema.maxItems, " items");
  between(schema.minProperties, schema.maxProperties, " entries");
  if (schema.uniqueItems) rules.push("all different");
  if (schema.enum) rules.push(`one of ${schema.enum.map((value) => JSON.stringify(value)).join(", ")}`);
  if (schema.not?.enum) rules.push(`not ${schema.not.enum.map((value) => JSON.stringify(value)).join(", ")}`);
  if (schema.pattern) rules.push(`pattern ${schema.pattern}`);
  if (schema.examples?.length) rules.push(`example ${JSON.stringify(schema.examples[0])}`);
  return rules.join("; ");
}

/** The message behind a field, opened when somebody asks: messages may hold themselves. */
function nested(schema) {
  const inner = resolve(schema);
  if (inner.items) return nested(inner.items);
  if (typeof inner.additionalProperties === "object") return nested(inner.additionalProperties);
  if (!inner.properties || Object.keys(inner.properties).length === 0) return undefined;
  const more = element("details", { class: "more" }, element("summary", {}, `fields of ${typeOf(schema)}`));
  more.addEventListener("toggle", () => more.append(fields(inner)), { once: true });
  return more;
}

function field(name, schema, { required, place } = {}) {
  const known = resolve(schema);
  const marks = [required && "required", known.readOnly && "read only", known.writeOnly && "write only", known.deprecated && "deprecated"];
  return element("li", { class: known.deprecated ? "deprecated" : undefined },
    element("code", { class: "name" }, name), " ",
    element("span", { class: "type" }, [place, typeOf(schema)].filter(Boolean).join(" · ")),
    marks.filter(Boolean).map((mark) => element("span", { class: "mark" }, mark)),
    known.description ? prose(known.description) : undefined,
    element("div", { class: "rules" }, rulesOf(known)),
    nested(schema));
}

function fields(schema) {
  const required = schema.required ?? [];
  const names = Object.keys(schema.properties ?? {});
  names.sort((a, b) => required.includes(b) - required.includes(a));
  const rows = names.map((name) => field(name, schema.properties[name], { required: required.includes(name) }));
  const choices = (schema.allOf ?? []).filter((one) => one.oneOf).map((one) => {
    const members = one.oneOf.flatMap((choice) => choice.required ?? []);
    const count = members.length === one.oneOf.length ? "Exactly one" : "At most one";
    return element("p", { class: "rules" }, `${count} of ${members.join(", ")}.`);
  });
  return element("div", {}, choices, element("ul", { class: "fields" }, rows));
}

function shape(schema) {
  const known = resolve(schema);
  if (known.properties) return fields(known);
  return element("div", {}, element("span", { class: "type" }, typeOf(schema)), element("div", { class: "rules" }, rulesOf(known)), nested(schema));
}

function snippet(text) {
  const copy = element("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return element("div", { class: "snippet" }, element("pre", { tabindex: "0" }, text), navigator.clipboard ? copy : undefined);
}

const pretty = (value) => JSON.stringify(value, null, 2);
const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

function curl(method, path, operation) {
  const parameters = operation.parameters ?? [];
  const given = (parameter) => parameter.example ?? `<${parameter.name}>`;
  let url = path.replace(/\{([^}]+)\}/g, (_, name) => {
    const parameter = parameters.find((one) => one.in === "path" && one.name === name);
    return encodeURIComponent(parameter ? given(parameter) : name);
  });
  const query = parameters.filter((one) => one.in === "query" && one.required);
  if (query.length) url += `?${query.map((one) => `${one.name}=${encodeURIComponent(given(one))}`).join("&")}`;
  const server = new URL(spec.document.servers?.[0]?.url ?? "/", document.baseURI).href.replace(/\/$/, "");
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${quote(server + url)}`];
  for (const one of parameters.filter((one) => one.in === "header" && one.required)) {
    lines.push(`-H ${quote(`${one.name}: ${given(one)}`)}`);
  }
  if ((operation.security ?? []).some((way) => Object.keys(way).length)) lines.push(`-H "Authorization: Bearer $TOKEN"`);
  const [media, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  if (media === "application/json") {
    lines.push(`-H ${quote(`Content-Type: ${media}`)}`, `-d ${quote(JSON.stringify(body.example ?? {}))}`);
  } else if (media) {
    lines.push("--data-binary @file");
  }
  return lines.join(" \\\n  ");
}

function bodyOf(content) {
  return Object.entries(content ?? {}).flatMap(([media, body]) => [
    element("p", {}, element("code", {}, media)),
    shape(body.schema ?? {}),
    body.example === undefined ? undefined
      : element("details", { class: "more" }, element("summary", {}, "example"), snippet(pretty(body.example))),
  ]);
}

function access(security) {
  if (!security) return undefined;
  const ways = security.map((way) => Object.keys(way).join(" with ")).filter(Boolean);
  const text = ways.length ? ways.map((way) => `\`${way}\``).join(" or ") : "none";
  return element("p", { class: "rules" }, line(`Credentials: ${text}`));
}

function content(method, path, operation) {
  const parameters = (operation.parameters ?? []).map((one) =>
    field(one.name, { ...(one.schema ?? Object.values(one.content ?? {})[0]?.schema), ...(one.description && { description: one.description }) },
      { required: one.required, place: one.in }));
  const responses = Object.entries(operation.responses ?? {});
  const good = responses.filter(([status]) => status.startsWith("2"));
  const bad = responses.filter(([status]) => !status.startsWith("2"));
  return element("div", { class: "content" },
    prose(operation.description),
    access(operation.security),
    METHODS.includes(method) ? [element("h3", {}, "Request"), snippet(curl(method, path, operation))] : [],
    parameters.length ? [element("h3", {}, "Parameters"), element("ul", { class: "fields" }, parameters)] : [],
    operation.requestBody ? [element("h3", {}, operation.requestBody.required ? "Body" : "Body (optional)"), bodyOf(operation.requestBody.content)] : [],
    good.map(([status, response]) => [
      element("h3", {}, `Answer ${status}`), prose(resolve(response).description), bodyOf(resolve(response).content)]).flat(2),
    element("h3", {}, "Errors"),
    element("ul", { class: "fields" }, bad.map(([status, response]) =>
      element("li", {}, element("span", { class: "status" }, status), prose(resolve(response).description)))));
}

function operationsOf(document_) {
  const found = [];
  for (const [path, item] of Object.entries(document_.paths ?? {})) {
    for (const method of METHODS) if (item[method]) found.push({ method, path, operation: item[method] });
    for (const [method, operation] of Object.entries(item[ADDITIONAL] ?? {})) found.push({ method, path, operation });
  }
  return found;
}

function show(document_) {
  spec.document = document_;
  const { info = {}, tags = [] } = document_;
  document.title = info.title ?? "API";
  document.getElementById("title").textContent = info.title ?? "API";
  document.getElementById("meta").append(`${info.version ?? ""} · `, element("a", { href: "openapi.json" }, "openapi.json"));
  const main = document.getElementById("main");
  const nav = document.getElementById("nav");
  main.replaceChildren(prose(info.description));
  const schemes = Object.entries(document_.components?.securitySchemes ?? {});
  if (schemes.length) {
    main.append(element("h2", {}, "Credentials"),
      element("ul", { class: "fields" }, schemes.map(([name, scheme]) =>
        element("li", {}, element("code", { class: "name" }, name), " ",
          element("span", { class: "type" }, [scheme.type, scheme.scheme, scheme.in && `${scheme.in} ${scheme.name}`].filter(Boolean).join(" · ")),
          prose(scheme.description)))));
  }
  const all = operationsOf(document_);
  const rows = [];
  for (const tag of tags) {
    const title = tag["x-displayName"] ?? tag.name;
    const section = element("section", { "aria-label": title }, element("h2", {}, title), prose(tag.description));
    const list = element("ul");
    const group = element("div", {}, element("h2", {}, title), list);
    for (const { method, path, operation } of all.filter((one) => one.operation.tags?.includes(tag.name))) {
      const id = operation.operationId;
      const badge = () => element("span", { class: `method ${METHODS.includes(method) ? method : ""}` }, method.toUpperCase());
      const box = element("details", { class: `operation${operation.deprecated ? " deprecated" : ""}`, id },
        element("summary", {}, badge(), element("span", { class: "path" }, path), element("span", { class: "summary" }, operation.summary)));
      box.addEventListener("toggle", () => box.append(content(method, path, operation)), { once: true });
      const link = element("li", {}, element("a", { href: `#${id}`, title: `${method.toUpperCase()} ${path}` }, id.replace(/^[^_]*_/, "")));
      section.append(box);
      list.append(link);
      rows.push({ box, link, section, group, words: [method, path, id, operation.summary, operation.description].join(" ").toLowerCase() });
    }
    main.append(section);
    nav.append(group);
  }
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const fits = wanted.every((word) => row.words.includes(word));
      row.box.hidden = row.link.hidden = !fits;
    }
    for (const { section, group } of rows) {
      const none = rows.every((row) => row.section !== section || row.box.hidden);
      section.hidden = group.hidden = none;
    }
  });
  const open = () => {
    const box = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (box instanceof HTMLDetailsElement) {
      box.open = true;
      box.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
}

try {
  const answer = await fetch(new URL("openapi.json", document.baseURI), { credentials: "omit" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.getElementById("state").textContent = `openapi.json cannot be shown: ${error.message}`;
}
