// Run in a page: what of docs/vectors the browser's client reads or makes otherwise, as sentences.
async (messages, encodings, inSixDigits) => {
  const load = (name) => import(`/examples/browser_client/${name}.js`);
  const [bytes, pack, wire, models, codecs, envelope, client] = await Promise.all(
    ["bytes", "messagepack", "wire", "model_file", "codecs", "envelope", "client"].map(load),
  );
  const { fromHex, toHex } = bytes;
  const faults = [];
  const same = (what, found, told) => {
    const [one, other] = [found, told].map((value) => JSON.stringify(value));
    if (one !== other) faults.push(`${what}: ${one} is not ${other}`);
  };
  const refused = async (what, action) => {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof pack.WireError)) faults.push(`${what}: raises ${error}`);
      return;
    }
    faults.push(`${what}: is not refused`);
  };
  // As the vectors write what JSON has no words for.
  const plain = (value) => {
    if (value instanceof Uint8Array) return { hex: toHex(value) };
    if (typeof value === "bigint") return { int: String(value) };
    if (Array.isArray(value)) return value.map(plain);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
  };
  const bytesOf = (name) => fromHex(messages.find((one) => one.name === name).hex);

  for (const { name, fields, hex } of messages) {
    const data = fromHex(hex);
    const decoded = pack.decode(data);
    same(name, plain(decoded), fields);
    same(`${name}, written and read`, plain(pack.decode(pack.encode(decoded))), fields);
    for (let length = 0; length < data.length; length += 1) {
      await refused(`${name}, cut to ${length}`, async () => pack.decode(data.subarray(0, length)));
    }
    // An offer is on the board, and in an inbox where it is said again.
    const ofOwn = { offer: [wire.readOffer, wire.readInbox], presence: [wire.readPresence] }[fields.kind];
    const toClient = ["receipt", "go", "timeleft", "open"].includes(fields.kind) ? [wire.readInbox] : [];
    for (const reader of [wire.readOffer, wire.readPresence, wire.readInbox]) {
      if ((ofOwn ?? toClient).includes(reader)) {
        const told = plain(reader(pack.encode({ ...decoded, mood: "good" })));
        for (const [field, value] of Object.entries(fields)) same(`${name}.${field}`, told[field], value);
        await refused(`${name} of no run`, async () => reader(pack.encode({ ...decoded, run: "../r", session: 1 })));
      } else {
        await refused(`${name}, taken for another`, async () => reader(data));
      }
    }
  }

  // To the byte, where no number could be written in two ways.
  const { run, round, digest, size_bytes, chunk_bytes } = pack.decode(bytesOf("announce"));
  const written = {
    announce: wire.announce(run, round, digest, size_bytes, chunk_bytes),
    chunk: wire.chunk(digest, Uint8Array.of(0, 1, 2)),
    decline: wire.decline(run, round, "on battery"),
  };
  for (const [name, made] of Object.entries(written)) same(name, toHex(made), toHex(bytesOf(name)));
  const will = pack.decode(wire.goodbye("s1"));
  for (const [field, value] of Object.entries(will)) same(`will.${field}`, value, pack.decode(bytesOf("presence_will"))[field]);
  const update = pack.decode(bytesOf("update"));
  const { kind: _kind, wire: _wire, ...fields } = update;
  same("update", plain(pack.decode(wire.update(fields))), plain(update));

  const file = encodings.model_file;
  const model = models.readModel(fromHex(file.hex));
  same("tensors", model.tensors, file.tensors);
  same("numbers", [...model.numbers], file.numbers);
  same("fingerprint", await models.fingerprint(model.tensors), file.fingerprint);
  same("SHA-256", toHex(await bytes.sha256(fromHex(file.hex))), file.sha256);
  await refused("a model with a number too many", async () => models.readModel(fromHex(`${file.hex}00000000`)));

  for (const { client: name, lanes, lane } of encodings.lanes) same(`lane of ${name}`, wire.laneOf(name, lanes), lane);
  for (const { salt, round: number, purpose, draws } of encodings.sortition) {
    for (const [name, told] of Object.entries(draws)) {
      same(`draw of ${name}`, plain(await wire.draw(salt, number, purpose, name)), told);
    }
  }

  for (const told of encodings.codecs.filter(({ codec }) => codec in codecs.CODECS)) {
    const made = codecs.CODECS[told.codec](Float32Array.from(told.numbers));
    const theirs = fromHex(told.hex);
    same(`${told.codec}, its length`, made.length, theirs.length);
    if (told.codec === "full") same("full", toHex(made), told.hex);
    // Both are next to the number; which of the two is chance.
    const levels = [made, theirs].map((one) => new Int8Array(one.slice(4).buffer));
    if (told.codec === "int8") {
      same("int8, its step", toHex(made.slice(0, 4)), told.hex.slice(0, 8));
      same("int8", levels[0].every((level, n) => Math.abs(level - levels[1][n]) <= 1), true);
    }
  }

  const { signatures } = encodings;
  const keys = await envelope.readKeys(signatures);
  for (const { message, topic, published_hex } of signatures.sealed) {
    const published = fromHex(published_hex);
    const told = messages.find((one) => one.name === message);
    if (told.written_by === "coordinator") {
      same(`${message}, opened`, toHex(await keys.open(topic, published)), told.hex);
      await refused(`${message} in another topic`, () => keys.open(`${topic}x`, published));
      published[published.length - 1] ^= 1;
      await refused(`${message}, changed`, () => keys.open(topic, published));
      await refused(`${message}, unsigned`, () => keys.open(topic, fromHex(told.hex)));
      await refused(`${message}, without keys`, () => envelope.NO_KEYS.open(topic, published));
    } else if (told.signed_with_keys) {
      same(`${message}, sealed`, toHex(await keys.seal(topic, fromHex(told.hex))), published_hex);
    }
  }

  for (const [number, text] of inSixDigits) same(`%g of ${number}`, client.inSixDigits(number), text);
  return faults;
};
