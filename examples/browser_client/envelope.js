// The envelope of signed messages, where the device has keys: what a coordinator says counts only
// if the federation signed it, and what this client says is signed by its own key.
//
//   coordinator    C1 01 | signature 64 | message
//   device         C1 02 | public key 32 | ticket 64 | signature 64 | message
//
// Signed is the topic and the SHA-256 of the message.

import { fromBase64, joined, ofText, sha256 } from "./bytes.js";
import { WireError } from "./messagepack.js";

const MARK = 0xc1;
const BY_COORDINATOR = 1;
const BY_DEVICE = 2;
/** What PKCS #8 has before the 32 bytes of an Ed25519 private key (RFC 8410). */
const PKCS8_HEAD = fromBase64("MC4CAQAwBQYDK2VwBCIEIA==");
const NUL = Uint8Array.of(0);

/** Without keys: nothing is signed, and what is signed cannot be read. */
export const NO_KEYS = {
  async seal(_topic, message) {
    return message;
  },
  async open(_topic, payload) {
    if (payload[0] === MARK) {
      throw new WireError("it is signed, and there is no key here to check it with: use credentials with keys");
    }
    return payload;
  },
};

/** The keys in a device's credentials. Throws Error where this browser has no Ed25519. */
export async function readKeys({ federation_key, signing_key, ticket }) {
  if (!federation_key && !signing_key && !ticket) return NO_KEYS;
  let federation, own, pub;
  try {
    federation = await crypto.subtle.importKey("raw", fromBase64(federation_key), "Ed25519", false, ["verify"]);
    // Made extractable for a moment: Web Crypto tells the public half in no other way.
    const pkcs8 = joined(PKCS8_HEAD, fromBase64(signing_key));
    const open = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
    const { x } = await crypto.subtle.exportKey("jwk", open);
    pub = fromBase64(x.replaceAll("-", "+").replaceAll("_", "/"));
    own = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
  } catch (error) {
    throw new Error(
      error.name === "NotSupportedError"
        ? "this browser cannot check signatures (Ed25519), and this federation asks for them: take a newer browser"
        : `the keys in the credentials cannot be used: ${error.message}`,
    );
  }
  const head = joined(Uint8Array.of(MARK, BY_DEVICE), pub, fromBase64(ticket));
  return {
    /** What to publish there. */
    async seal(topic, message) {
      const said = await signed("device", topic, message);
      return joined(head, new Uint8Array(await crypto.subtle.sign("Ed25519", own, said)), message);
    },
    /** The message of a coordinator. Throws WireError where the federation did not sign it. */
    async open(topic, payload) {
      if (payload[0] !== MARK || payload[1] !== BY_COORDINATOR || payload.length < 66) {
        throw new WireError("it is not signed by the federation");
      }
      const message = payload.subarray(66);
      const said = await signed("coordinator", topic, message);
      if (!(await crypto.subtle.verify("Ed25519", federation, payload.subarray(2, 66), said))) {
        throw new WireError("it is not what this federation's coordinator signed");
      }
      return message;
    },
  };
}

async function signed(who, topic, message) {
  return joined(ofText(`fedmqtt 1 ${who}`), NUL, ofText(topic), NUL, await sha256(message));
}
