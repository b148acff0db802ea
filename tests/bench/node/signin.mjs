// The function `signin` as one would write it well for Node 20, for the bench to compare with: the AWS SDK, node-argon2
// and jose, clients made once, connections kept, the secret cached, bundled and minified. It makes the same calls to
// DynamoDB in the same order under the same conditions, and writes the same lines. Left out is what the bench does not
// send: IPv6 addresses, hashes of other forms, and what is to be said of a malformed request.

import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';

import {
  DeleteItemCommand, DynamoDBClient, GetItemCommand, PutItemCommand, UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';
import argon2 from 'argon2';
import { SignJWT } from 'jose';

const {
  USERS_TABLE = 'postern-users',
  SESSIONS_TABLE = 'postern-sessions',
  ATTEMPTS_TABLE = 'postern-attempts',
  JWT_SECRET_ID = 'postern/jwt-secret',
  JWT_ISSUER = 'lumen-jwt',
  METRICS_NAMESPACE = 'Postern',
} = process.env;
const failuresPerIp = Number(process.env.SIGNIN_FAILURES_PER_IP ?? 100);
const secretsCacheMs = 1000 * Number(process.env.SECRETS_CACHE_SECONDS ?? 300);

const attempts = { maxAttempts: 3 };
const timeouts = { connectionTimeout: 1000, requestTimeout: 1000, throwOnRequestTimeout: true };
const dynamodb = new DynamoDBClient({ ...attempts, requestHandler: timeouts });
const secretsManager = new SecretsManagerClient({ ...attempts, requestHandler: timeouts });
// For what would count twice if repeated; on the same connections.
const dynamodbOnce = new DynamoDBClient({ maxAttempts: 1, requestHandler: dynamodb.config.requestHandler });

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

// Verified for a username that nobody has, so that this takes the same time.
const DECOY = `$argon2id$v=19$m=19456,t=2,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

const now = () => Date.now() * 1000;
const text = (value) => ({ S: value });
const number = (value) => ({ N: String(value) });
const ttl = (instant) => number(Math.floor(instant / SECOND) + 1);
const unique = () => randomBytes(16).toString('base64url');

/** A request that is not granted. */
class Refusal extends Error {
  constructor(outcome, msg, waitMicros) {
    super(outcome);
    Object.assign(this, { outcome, msg, waitMicros });
  }
}

const rateLimited = (waitMicros) => new Refusal('rate_limit_exceeded', 'Rate limit exceeded', waitMicros);

/** Makes an update under a condition: whether it held, and the item as it is. */
async function update(client, input) {
  try {
    const { Attributes: item } = await client.send(new UpdateItemCommand(input));
    return { made: true, item };
  } catch (error) {
    if (error.name !== 'ConditionalCheckFailedException') throw error;
    return { made: false, item: error.Item };
  }
}

/**
 * Makes the update `countOn` of a counter. Where its condition does not hold, `waitMicros` of the item is the time
 * until an attempt is let through; without one the item is out of date, and the update `beginAnew` replaces it.
 */
async function reserve(subject, { countOn, isRepetition = () => false, waitMicros, beginAnew }) {
  const attempt = {
    TableName: ATTEMPTS_TABLE,
    Key: { subject: text(subject) },
    ExpressionAttributeNames: { '#ttl': 'ttl' },
    ReturnValues: 'ALL_NEW',
    ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
  };
  // Each round is lost only to another attempt that began anew first.
  for (let round = 0; round < 3; round += 1) {
    const counted = await update(dynamodb, { ...attempt, ...countOn });
    if (counted.made || isRepetition(counted.item)) return counted.item;
    const wait = waitMicros(counted.item);
    if (wait !== undefined) throw rateLimited(wait);
    const begun = await update(dynamodb, { ...attempt, ...beginAnew(counted.item) });
    if (begun.made) return begun.item;
  }
  throw new Error('others were faster each time');
}

/** Counts an attempt from `sourceIp` as if it had failed; what to give back if it does not. */
async function reserveAddress(sourceIp) {
  if (failuresPerIp === 0) return undefined;
  const subject = `ip#${sourceIp}`;
  const at = now();
  const values = { ':one': number(1), ':end': number(at + ADDRESS_WINDOW), ':ttl': ttl(at + ADDRESS_WINDOW) };
  const item = await reserve(subject, {
    countOn: {
      ConditionExpression: 'attribute_not_exists(subject) OR (window_ends_at > :now AND failures < :limit)',
      UpdateExpression: 'SET failures = if_not_exists(failures, :zero) + :one, '
        + 'window_ends_at = if_not_exists(window_ends_at, :end), #ttl = if_not_exists(#ttl, :ttl)',
      ExpressionAttributeValues: {
        ...values, ':zero': number(0), ':now': number(at), ':limit': number(failuresPerIp),
      },
    },
    waitMicros: ({ window_ends_at: { N: end } }) => (end > at ? end - at : undefined),
    beginAnew: ({ window_ends_at: ended }) => ({
      ConditionExpression: 'window_ends_at = :ended',
      UpdateExpression: 'SET failures = :one, window_ends_at = :end, #ttl = :ttl',
      ExpressionAttributeValues: { ...values, ':ended': ended },
    }),
  });
  return { subject, end: item.window_ends_at };
}

/** Takes an attempt that did not fail out of the count again. */
async function giveBack(address) {
  if (address === undefined) return;
  await update(dynamodbOnce, {
    TableName: ATTEMPTS_TABLE,
    Key: { subject: text(address.subject) },
    ConditionExpression: 'window_ends_at = :end AND failures > :zero',
    UpdateExpression: 'SET failures = failures - :one',
    ExpressionAttributeValues: { ':end': address.end, ':zero': number(0), ':one': number(1) },
  });
}

const waitAfter = (failures) => (failures < FREE_FAILURES
  ? 0
  : Math.min(SECOND * 2 ** (failures - FREE_FAILURES), LONGEST_WAIT));

// That the wait is over: a clause for each number of failures.
const waitClauses = ['failures < :free'];
const clauseFailures = [];
for (let failures = FREE_FAILURES; ; failures += 1) {
  const longest = waitAfter(failures) === LONGEST_WAIT;
  waitClauses.push(`(failures ${longest ? '>=' : '='} :n${failures} AND last_attempt_at <= :t${failures})`);
  clauseFailures.push(failures);
  if (longest) break;
}
const WAITS_OVER = 'attribute_not_exists(subject) '
  + `OR (attempt <> :attempt AND last_attempt_at > :quiet AND (${waitClauses.join(' OR ')}))`;

/** Counts an attempt to sign in as `username` as if it had failed. */
async function reserveSignin(username) {
  const at = now();
  const attempt = text(unique());
  const values = { ':one': number(1), ':now': number(at), ':attempt': attempt, ':ttl': ttl(at + QUIET_PERIOD) };
  const waits = clauseFailures.flatMap((failures) => [
    [`:n${failures}`, number(failures)],
    [`:t${failures}`, number(at - waitAfter(failures))],
  ]);
  await reserve(`username#${username}`, {
    countOn: {
      ConditionExpression: WAITS_OVER,
      UpdateExpression: 'SET failures = if_not_exists(failures, :zero) + :one, last_attempt_at = :now, '
        + 'attempt = :attempt, #ttl = :ttl',
      ExpressionAttributeValues: {
        ...values, ...Object.fromEntries(waits),
        ':zero': number(0), ':free': number(FREE_FAILURES), ':quiet': number(at - QUIET_PERIOD),
      },
    },
    // An answer got lost, and the SDK repeated what was written.
    isRepetition: (item) => item.attempt.S === attempt.S,
    waitMicros: ({ last_attempt_at: { N: last }, failures: { N: failures } }) => {
      const forgotten = Number(last) + QUIET_PERIOD <= at;
      return forgotten ? undefined : Number(last) + waitAfter(Number(failures)) - at;
    },
    beginAnew: ({ last_attempt_at: last }) => ({
      ConditionExpression: 'last_attempt_at = :forgotten',
      UpdateExpression: 'SET failures = :one, last_attempt_at = :now, attempt = :attempt, #ttl = :ttl',
      ExpressionAttributeValues: { ...values, ':forgotten': last },
    }),
  });
}

async function getUser(username) {
  const { Item } = await dynamodb.send(new GetItemCommand({
    TableName: USERS_TABLE, Key: { username: text(username) }, ConsistentRead: true,
  }));
  return Item;
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

async function issueToken(user) {
  const { version, key } = await signingKey();
  const issued = Math.floor(Date.now() / 1000);
  const claims = {
    iss: JWT_ISSUER, sub: user.user_id.S, iat: issued, exp: issued + JWT_LIFETIME_SECONDS, jti: unique(),
    stamp: user.security_stamp.S,
  };
  return new SignJWT(claims).setProtectedHeader({ typ: 'JWT', alg: 'HS256', kid: version }).sign(key);
}

async function createSession(user, sessionToken, information) {
  const at = now();
  await dynamodb.send(new PutItemCommand({
    TableName: SESSIONS_TABLE,
    Item: {
      session_id: text(createHash('sha256').update(sessionToken).digest('hex')),
      user_id: user.user_id,
      username: user.username,
      security_stamp: user.security_stamp,
      created_at: number(at),
      last_used_at: number(at),
      expires_at: number(at + SESSION_LIFETIME),
      ttl: ttl(at + SESSION_LIFETIME),
      ...(information === undefined ? {} : { information: text(information) }),
    },
  }));
}

async function recordSignin(user) {
  await update(dynamodb, {
    TableName: USERS_TABLE,
    Key: { username: user.username },
    ConditionExpression: 'security_stamp = :stamp',
    UpdateExpression: 'SET last_signin_at = :now',
    ExpressionAttributeValues: { ':stamp': user.security_stamp, ':now': number(now()) },
  });
}

async function clearFailures(username) {
  await dynamodb.send(new DeleteItemCommand({
    TableName: ATTEMPTS_TABLE, Key: { subject: text(`username#${username}`) },
  }));
}

/** Awaits what is not worth refusing a sign-in for. */
const tolerated = (work) => work.catch((error) => log('WARN', 'not done', { cause: error.name }));

/** The user whose password this is; without a verdict the attempt does not count. */
async function verify(username, password, reading, address, noted) {
  let right;
  let user;
  try {
    user = await reading;
    noted.user_id = user?.user_id.S;
    await reserveSignin(username);
    const start = performance.now();
    right = await argon2.verify(user?.password_hash.S ?? DECOY, password);
    noted.HashTime = performance.now() - start;
  } catch (error) {
    await tolerated(giveBack(address));
    throw error;
  }
  if (!right || user === undefined) {
    throw new Refusal('username_or_password_incorrect', 'Username or password is wrong');
  }
  return user;
}

async function signIn(user, request) {
  if (!user.activated.BOOL) throw new Refusal('not_activated', 'Account is not activated');
  if (user.must_change_password.BOOL) throw new Refusal('change_password', 'You have to change your password');
  const token = await issueToken(user);
  const sessionToken = request.stay_logged_in ? randomBytes(48).toString('base64url') : undefined;
  await Promise.all([
    sessionToken && createSession(user, sessionToken, request.session_information),
    tolerated(recordSignin(user)),
  ]);
  return { token, session_token: sessionToken };
}

/** The body of the answer. `noted` takes the user's id and the time of the hash, for the lines of the log. */
async function authenticate(event, noted) {
  const body = event.isBase64Encoded ? Buffer.from(event.body, 'base64').toString() : event.body;
  const request = JSON.parse(body);
  if (typeof request.username !== 'string' || typeof request.password !== 'string') {
    throw new Refusal('validation_failed', 'The given data was invalid');
  }
  const username = request.username.normalize('NFKC').toLowerCase().normalize('NFKC');
  const reading = getUser(username);
  // Awaited only once the address is reserved; until then nobody handles its failure.
  reading.catch(() => {});
  const address = await reserveAddress(event.requestContext.http.sourceIp);
  const user = await verify(username, request.password, reading, address, noted);
  const [answer] = await Promise.allSettled([
    signIn(user, request), tolerated(clearFailures(username)), tolerated(giveBack(address)),
  ]);
  if (answer.status === 'rejected') throw answer.reason;
  return answer.value;
}

function log(level, message, fields) {
  console.log(JSON.stringify({ timestamp: new Date().toISOString(), level, message, ...fields }));
}

function metrics(dimensions, values) {
  const units = Object.entries({ HashTime: 'Milliseconds', Answers: 'Count', ColdStarts: 'Count' });
  const Metrics = units.filter(([Name]) => Name in values).map(([Name, Unit]) => ({ Name, Unit }));
  if (Metrics.length === 0) return;
  const CloudWatchMetrics = [{ Namespace: METRICS_NAMESPACE, Dimensions: [Object.keys(dimensions)], Metrics }];
  console.log(JSON.stringify({ _aws: { Timestamp: Date.now(), CloudWatchMetrics }, ...dimensions, ...values }));
}

let coldStarts = { ColdStarts: 1 };

async function handle(event, { requestId, traceId }) {
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
      log('ERROR', 'failed', { event: 'signin', cause: error.name });
      outcome = 'service_unavailable';
      statusCode = 503;
      answer = { msg: 'Service unavailable, try again later', error_code: outcome };
      retryAfter = { 'retry-after': '5' };
    }
  }
  const { user_id, ...times } = noted;
  const { http: { sourceIp: source_ip }, requestId: api_request_id } = event.requestContext;
  const span = { request_id: requestId, api_request_id, trace_id: traceId, source_ip, user_id };
  log('INFO', 'answered', { event: 'signin', outcome, status: statusCode, span });
  metrics({}, { ...times, ...coldStarts });
  metrics({ Event: 'signin', Outcome: outcome }, { Answers: 1 });
  coldStarts = {};
  return {
    statusCode,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...retryAfter },
    body: JSON.stringify(answer),
    isBase64Encoded: false,
  };
}

// Lambda's Runtime API by hand: the package aws-lambda-ric has to compile curl first, and is no faster for it.
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
  const answer = await handle(JSON.parse(body), { requestId, traceId });
  await call('POST', `${requestId}/response`, JSON.stringify(answer));
}
