// Verifiers of Node.js, for verifiers.py: verifiers.mjs ALGORITHM ISSUER AUDIENCE KEY_SET_URL
//
// Reads one request as JSON from each line, and answers it on one line:
// - {"new": NAME}: the verifier NAME begins anew, without keys.
// - {"verify": TOKEN, "by": NAME}: why it refuses the token (null if it does not), and how often it has fetched keys.
// - {"key": JWK}: the type of the key and its thumbprint.

import { createInterface } from "node:readline";
import { JwtVerifier } from "aws-jwt-verify";
import { SimpleJwksCache } from "aws-jwt-verify/jwk";
import { calculateJwkThumbprint, createRemoteJWKSet, customFetch, importJWK, jwtVerify } from "jose";

const [algorithm, issuer, audience, keySetUrl] = process.argv.slice(2);

const VERIFIERS = {
  jose(fetch) {
    const keys = createRemoteJWKSet(new URL(keySetUrl), { [customFetch]: fetch, cacheMaxAge: Infinity });
    return (token) => jwtVerify(token, keys, { issuer, audience, algorithms: [algorithm] });
  },

  // It finds the key set by the issuer alone.
  "aws-jwt-verify"(fetch) {
    // Its own fetcher insists on HTTPS.
    const fetcher = { fetch: async (url) => (await fetch(url)).arrayBuffer() };
    const jwksCache = new SimpleJwksCache({ fetcher });
    const verifier = JwtVerifier.create({ issuer, audience }, { jwksCache });
    return (token) => verifier.verify(token);
  },
};

const running = {};

function start(name) {
  const verifier = { fetches: 0 };
  verifier.verify = VERIFIERS[name]((...request) => {
    verifier.fetches += 1;
    return fetch(...request);
  });
  running[name] = verifier;
  return {};
}

async function verify(token, name) {
  const verifier = running[name];
  try {
    await verifier.verify(token);
    return { refusal: null, fetches: verifier.fetches };
  } catch (error) {
    return { refusal: error.code ?? error.constructor.name, fetches: verifier.fetches };
  }
}

async function describe(key) {
  return { type: (await importJWK(key)).type, thumbprint: await calculateJwkThumbprint(key) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  if (request.new) answer = start(request.new);
  else if (request.key) answer = await describe(request.key);
  else answer = await verify(request.verify, request.by);
  console.log(JSON.stringify(answer));
}
