// The function `signin` as a good implementation for Node 20, for comparison: the AWS SDK, node-argon2 and jose, with
// clients created once, connections reused, the secret cached, and the code bundled and minified. It makes the same calls
// to DynamoDB in the same order with the same conditions, and logs the same lines. It leaves out cases that the bench does
// not send: IPv6 addresses, other kinds of hashes, users with many sessions, and malformed requests.

import { createHash, randomBytes, randomInt } from 'node:crypto';
import http from 'node:http';

import {
  BatchGetItemCommand, DynamoDBClient, PutItemCommand, UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';
import argon2 from 'argon2';
import { SignJWT } from 'jose';

const {
  USERS_TABLE = 'postern-users',
  SESSIONS_TABLE = 'postern-sessions',
  ATTEMPTS_TABLE = 'postern-attempts',
  SOURCE_IPS_TABLE = 'postern-source-ips',
  JWT_SECRET_ID = 'postern/jwt-secret',
  JWT_ISSUER = 'lumen-jwt',
} = process.env;
const failuresPerIp = Number(process.env.SIGNIN_FAILURES_PER_IP ?? 100);
const secretsCacheMs = 1000 * Number(process.env.SECRETS_CACHE_SECONDS ?? 300);

const attempts = { maxAttempts: 3 };
const timeouts = { connectionTimeout: 1000, requestTimeout: 1000, throwOnRequestTimeout: true };
const dynamodb = new DynamoDBClient({ ...attempts, requestHandler: timeouts });
const secretsManager = new SecretsManagerClient({ ...attempts, requestHandler: timeouts });

// Instants are in microseconds since the Unix epoch.
const SECOND = 1_000_000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

const FREE_FAILURES = 10;
const LONGEST_WAIT = 15 * MINUTE;
const QUIET_PERIOD = DAY;
const ADDRESS_WINDOW = 15 * MINUTE;
const SESSION_LIFETIME = 30 * DAY;
const JWT_LIFETIME_SECONDS = 3600;

// Verified for an unknown username, so that it takes the same time as for a known one.
const DECOY = `$argon2id$v=19$m=19456,t=2,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

const ALPHANUMERIC = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

const now = () => Date.now() * 1000;
const text = (value) => ({ S: value });
const number = (value) => ({ N: String(value) });
const ttl = (instant) => number(Math.floor(instant / SECOND) + 1);
const unique = () => randomBytes(16).toString('base64url');
const alphanumeric = (chars) => Array.from({ length: chars }, () => ALPHANUMERIC[randomInt(62)]).join('');

/** A refused request. */
class Refusal extends Error {
  constructor(outcome, msg, waitMicros) {
    super(outcome);
    Object.assign(this, { outcome, msg, waitMicros });
  }
}

const rateLimited = (waitMicros) => new Refusal('rate_limit_exceeded', 'Rate limit exceeded', waitMicros);

/** Makes a conditional update, and returns whether the condition held, and the item. */
async function update(client, input) {
  try {
    const { Attributes: item } = await client.send(new UpdateItemCommand(input));
    return { made: true, item };
  } catch (error) {
    if (error.name !== 'ConditionalCheckFailedException') throw error;
    return { made: false, item: error.Item };
  }
}

const waitAfter = (failures) => (failures < FREE_FAILURES
  ? 0
  : Math.min(SECOND * 2 ** (failures - FREE_FAILURES), LONGEST_WAIT));

/** The /24 of an IPv4 address; the bench has no others. */
const networkOf = (sourceIp) => sourceIp.replace(/[^.]*$/, '0/24');

const USER_ATTRIBUTES = 'username, display_username, user_id, security_stamp, recovery_stamp, session_owner, kept_jti, '
  + 'email_addresses, locale, activated, must_change_password, created_at, password_changed_at, own_changes, '
  + 'last_signin_at, networks, password_hash, known_failures, known_attempt, known_attempt_at, other_failures, '
  + 'other_attempt, other_attempt_at';

/** Reads the user, the failures of an unknown name and those of the address in one call. */
async function read(username, sourceIp) {
  const keys = {
    [USERS_TABLE]: {
      Keys: [{ username: text(username) }], ConsistentRead: true, ProjectionExpression: USER_ATTRIBUTES,
    },
    [ATTEMPTS_TABLE]: { Keys: [{ subject: text(subjectOf(username)) }], ConsistentRead: true },
    ...(failuresPerIp > 0 && { [SOURCE_IPS_TABLE]: { Keys: [{ subject: text(`signin#${sourceIp}`) }] } }),
  };
  const found = {};
  for (let wanted = keys, round = 0; Object.keys(wanted).length > 0; round += 1) {
    if (round === 3) throw new Error('keys were left unprocessed');
    const { Responses, UnprocessedKeys } = await dynamodb.send(new BatchGetItemCommand({ RequestItems: wanted }));
    for (const [table, [item]] of Object.entries(Responses)) found[table] ??= item;
    wanted = UnprocessedKeys ?? {};
  }
  return { user: found[USERS_TABLE], stub: found[ATTEMPTS_TABLE], address: found[SOURCE_IPS_TABLE] };
}

const subjectOf = (username) => `username#${createHash('sha256').update(username).digest('base64url')}`;

/** Charges or clears an attempt if it is allowed, and returns whether it is, and the item. */
async function commit(username, user, stub, sourceIp, attempt, right, opensSession) {
  const at = now();
  const network = networkOf(sourceIp);
  const networks = user?.networks?.L.map(({ S }) => S) ?? [];
  const budget = networks.includes(network) ? 'known' : 'other';
  const item = user ?? stub;
  const last = Number(item?.[`${budget}_attempt_at`]?.N ?? 0);
  const failures = Number(item?.[`${budget}_failures`]?.N ?? 0);
  const forgotten = failures > 0 && last + QUIET_PERIOD <= at;
  if (failures > 0 && !forgotten && last + waitAfter(failures) > at) throw rateLimited(last + waitAfter(failures) - at);
  const conditions = [`(attribute_not_exists(${budget}_attempt) OR ${budget}_attempt <> :attempt)`];
  const set = [`${budget}_attempt = :attempt`];
  const values = { ':attempt': text(attempt) };
  if (user !== undefined) {
    conditions.push('security_stamp = :stamp');
    values[':stamp'] = user.security_stamp;
    set.push('sessions_opened = sessions_opened + :opened');
    values[':opened'] = number(right && opensSession ? 1 : 0);
    conditions.push(networks.length > 0 ? 'networks = :networks' : 'attribute_not_exists(networks)');
    if (networks.length > 0) values[':networks'] = user.networks;
  } else {
    set.push('#ttl = :ttl');
    values[':ttl'] = ttl(at + QUIET_PERIOD);
  }
  if (forgotten) {
    conditions.push(`${budget}_attempt_at = :forgotten_at`);
    values[':forgotten_at'] = number(last);
  } else {
    const clauses = [`attribute_not_exists(${budget}_failures)`, `${budget}_failures < :free`];
    values[':free'] = number(FREE_FAILURES);
    // The wait is over: one clause for each number of failures.
    for (let n = FREE_FAILURES, longest = false; !longest; n += 1) {
      longest = waitAfter(n) === LONGEST_WAIT;
      clauses.push(`(${budget}_failures ${longest ? '>=' : '='} :n${n} AND ${budget}_attempt_at <= :t${n})`);
      values[`:n${n}`] = number(n);
      values[`:t${n}`] = number(at - waitAfter(n));
    }
    conditions.push(`(${clauses.join(' OR ')})`);
  }
  if (right) {
    set.push(`${budget}_failures = :zero`, 'last_signin_at = :now');
    values[':zero'] = number(0);
    if (networks[0] !== network) {
      set.push('networks = :new_networks');
      const latest = [network, ...networks.filter((other) => other !== network)].slice(0, 5);
      values[':new_networks'] = { L: latest.map(text) };
    }
  } else {
    set.push(`${budget}_attempt_at = :now`);
    set.push(`${budget}_failures = ${forgotten ? '' : `if_not_exists(${budget}_failures, :zero) + `}:one`);
    values[':one'] = number(1);
    if (!forgotten) values[':zero'] = number(0);
  }
  values[':now'] = number(at);
  const outcome = await update(dynamodb, {
    ...(user === undefined
      ? { TableName: ATTEMPTS_TABLE, Key: { subject: text(subjectOf(username)) } }
      : { TableName: USERS_TABLE, Key: { username: user.username } }),
    ConditionExpression: conditions.join(' AND '),
    UpdateExpression: `SET ${set.join(', ')}`,
    ExpressionAttributeValues: values,
    ...(user === undefined && { ExpressionAttributeNames: { '#ttl': 'ttl' } }),
    ReturnValues: 'ALL_NEW',
    ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
  });
  // A response was lost, and the SDK retried the write.
  return { ...outcome, made: outcome.made || outcome.item?.[`${budget}_attempt`]?.S === attempt };
}

/** Counts a wrong answer to an address, or refuses it. */
async function chargeAddress(sourceIp) {
  if (failuresPerIp === 0) return;
  const attempt = text(unique());
  for (let round = 0; round < 3; round += 1) {
    const at = now();
    const counter = {
      TableName: SOURCE_IPS_TABLE,
      Key: { subject: text(`signin#${sourceIp}`) },
      ExpressionAttributeNames: { '#ttl': 'ttl' },
      ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
    };
    const values = {
      ':attempt': attempt, ':one': number(1), ':end': number(at + ADDRESS_WINDOW), ':ttl': ttl(at + ADDRESS_WINDOW),
    };
    const counted = await update(dynamodb, {
      ...counter,
      ConditionExpression: 'attribute_not_exists(subject) '
        + 'OR (attempt <> :attempt AND window_ends_at > :now AND failures < :limit)',
      UpdateExpression: 'SET failures = if_not_exists(failures, :zero) + :one, attempt = :attempt, '
        + 'window_ends_at = if_not_exists(window_ends_at, :end), #ttl = if_not_exists(#ttl, :ttl)',
      ExpressionAttributeValues: {
        ...values, ':zero': number(0), ':now': number(at), ':limit': number(failuresPerIp),
      },
    });
    if (counted.made || counted.item.attempt.S === attempt.S) return;
    const end = Number(counted.item.window_ends_at.N);
    if (end > at) throw rateLimited(end - at);
    const begun = await update(dynamodb, {
      ...counter,
      ConditionExpression: 'window_ends_at = :ended',
      UpdateExpression: 'SET failures = :one, attempt = :attempt, window_ends_at = :end, #ttl = :ttl',
      ExpressionAttributeValues: { ...values, ':ended': number(end) },
    });
    if (begun.made) return;
  }
  throw new Error('others were faster each time');
}

let cachedKey;

/** The key that signs tokens, at most `SECRETS_CACHE_SECONDS` old. */
async function signingKey() {
  if (cachedKey === undefined || Date.now() - cachedKey.fetched >= secretsCacheMs) {
    const fetched = Date.now();
    const secret = await secretsManager.send(new GetSecretValueCommand({
      SecretId: JWT_SECRET_ID, VersionStage: 'AWSCURRENT',
    }));
    cachedKey = { fetched, version: secret.VersionId, key: new TextEncoder().encode(secret.SecretString) };
  }
  return cachedKey;
}

const sha256 = (text) => createHash('sha256').update(text).digest();

/** The number of a session, from the hash of its token. */
const sessionId = (hash) => (hash.readUInt32BE() % 0x7fffffff) + 1;

async function issueToken(user, sessionToken) {
  const { version, key } = await signingKey();
  const issued = Math.floor(Date.now() / 1000);
  const claims = {
    iss: JWT_ISSUER, sub: user.user_id.S, iat: issued, exp: issued + JWT_LIFETIME_SECONDS, jti: unique(),
    stamp: user.security_stamp.S,
    ...(sessionToken && { sid: `${user.session_owner.S}.${sessionId(sha256(sessionToken))}` }),
  };
  return new SignJWT(claims).setProtectedHeader({ typ: 'JWT', alg: 'HS256', kid: version }).sign(key);
}

async function createSession(user, sessionToken, information) {
  const at = now();
  const hash = sha256(sessionToken);
  await dynamodb.send(new PutItemCommand({
    TableName: SESSIONS_TABLE,
    Item: {
      session_owner: user.session_owner,
      session_id: number(sessionId(hash)),
      token_hash: { B: hash },
      username: user.username,
      stamp_hash: { B: sha256(user.security_stamp.S) },
      created_at: number(at),
      last_used_at: number(at),
      ttl: ttl(at + SESSION_LIFETIME),
      ...(information === undefined ? {} : { information: text(information) }),
    },
    ConditionExpression: 'attribute_not_exists(session_id)',
  }));
}

/** The user with this password. The outcome is revealed only after the attempt was charged or cleared. */
async function verify(username, password, sourceIp, opensSession, noted) {
  let { user, stub, address } = await read(username, sourceIp);
  const end = Number(address?.window_ends_at.N ?? 0);
  if (end > now() && Number(address.failures.N) >= failuresPerIp) throw rateLimited(end - now());
  noted.user_id = user?.user_id.S;
  const attempt = unique();
  let stamp;
  let right;
  for (let round = 0; round < 50; round += 1) {
    if (round === 0 || stamp !== user?.security_stamp.S) {
      const start = performance.now();
      right = await argon2.verify(user?.password_hash.S ?? DECOY, password) && user !== undefined;
      noted.hash_ms = performance.now() - start;
      stamp = user?.security_stamp.S;
    }
    const { made, item } = await commit(username, user, stub, sourceIp, attempt, right, opensSession);
    if (made) {
      if (right) return item;
      await chargeAddress(sourceIp);
      throw new Refusal('username_or_password_incorrect', 'Username or password is wrong');
    }
    if (user === undefined) stub = item; else user = item;
  }
  throw new Error('others were faster each time');
}

async function signIn(user, request) {
  if (!user.activated.BOOL) throw new Refusal('not_activated', 'Account is not activated');
  if (user.must_change_password.BOOL) throw new Refusal('change_password', 'You have to change your password');
  const sessionToken = request.stay_logged_in ? user.session_owner.S + alphanumeric(42) : undefined;
  const token = await issueToken(user, sessionToken);
  if (sessionToken !== undefined) await createSession(user, sessionToken, request.session_information);
  return { token, session_token: sessionToken };
}

/** The body of the response. `noted` receives the id of the user and the time of the hash for the log. */
async function authenticate(event, noted) {
  const body = event.isBase64Encoded ? Buffer.from(event.body, 'base64').toString() : event.body;
  const request = JSON.parse(body);
  if (typeof request.username !== 'string' || typeof request.password !== 'string') {
    throw new Refusal('validation_failed', 'The given data was invalid');
  }
  const username = request.username.normalize('NFKC').toLowerCase().normalize('NFKC');
  const { sourceIp } = event.requestContext.http;
  return signIn(await verify(username, request.password, sourceIp, request.stay_logged_in === true, noted), request);
}

function log(level, fields) {
  console.log(JSON.stringify({ timestamp: new Date().toISOString(), level, ...fields }));
}

let cold = true;

async function handle(event, { traceId }) {
  const start = performance.now();
  const noted = {};
  let outcome = 'signed_in';
  let statusCode = 200;
  let answer;
  let retryAfter = {};
  try {
    answer = await authenticate(event, noted);
  } catch (error) {
    if (error instanceof Refusal) {
      outcome = error.outcome;
      statusCode = outcome === 'validation_failed' ? 422 : 400;
      answer = { msg: error.msg, error_code: outcome };
      if (error.waitMicros !== undefined) {
        retryAfter = { 'retry-after': String(Math.max(1, Math.ceil(error.waitMicros / SECOND))) };
      }
    } else {
      noted.cause = error.name;
      outcome = 'service_unavailable';
      statusCode = 503;
      answer = { msg: 'Service unavailable, try again later', error_code: outcome };
      retryAfter = { 'retry-after': '5' };
    }
  }
  const { user_id, hash_ms, cause } = noted;
  const { http: { sourceIp: source_ip }, requestId: request_id } = event.requestContext;
  const trace_id = traceId?.includes('Sampled=1') ? traceId : undefined;
  const ms = performance.now() - start;
  const rss_mb = Math.ceil(process.resourceUsage().maxRSS / 1024);
  const answered = { event: 'signin', outcome, status: statusCode, request_id, source_ip, user_id, ms, hash_ms, rss_mb };
  log(cause ? 'ERROR' : 'INFO', { ...answered, cold: cold || undefined, trace_id, cause });
  cold = false;
  return {
    statusCode,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...retryAfter },
    body: JSON.stringify(answer),
    isBase64Encoded: false,
  };
}

// The client of the Runtime API is written by hand, because the package aws-lambda-ric has to compile curl and is no
// faster.
const agent = new http.Agent({ keepAlive: true });
const invocations = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(`${invocations}/${path}`, { method, agent }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

for (;;) {
  const { headers, body } = await call('GET', 'next');
  const requestId = headers['lambda-runtime-aws-request-id'];
  const traceId = headers['lambda-runtime-trace-id']?.match(/Root=([^;]*)/)?.[1];
  const answer = await handle(JSON.parse(body), { traceId });
  await call('POST', `${requestId}/response`, JSON.stringify(answer));
}
