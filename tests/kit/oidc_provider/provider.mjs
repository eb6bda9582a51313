// An OpenID provider for tests: the npm package oidc-provider, with four accounts, a login page, and a clock that can
// be moved. What the protocol says is the package's own. Ours are the accounts, the pages, and the two things that
// RFC 8628 leaves open and the package leaves out: naming an interval, and `slow_down` for who asks more often.
import * as crypto from 'node:crypto';
import * as http from 'node:http';
import * as querystring from 'node:querystring';
import Provider, { errors } from 'oidc-provider';

const AUDIENCE = 'https://bastion.test/api';
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const ACCOUNTS = {
  alice: { name: 'Alice Ames', groups: ['engineers'] },
  bob: { name: 'Bob Bauer', groups: ['engineers', 'dba'] },
  carol: { name: 'Carol Chu', groups: ['dba'] },
  dave: { name: 'Dave Dorn', groups: ['auditors'] },
};
const DEFAULTS = { accessTtl: 600, deviceTtl: 600, interval: 0, slowDown: false };

let settings = { ...DEFAULTS };
let offset = 0;
const realNow = Date.now;
Date.now = () => realNow() + offset;

function keys() {
  const kinds = [['rsa', { modulusLength: 2048 }, 'RS256'], ['ec', { namedCurve: 'P-256' }, 'ES256']];
  return { keys: kinds.map(([type, options, alg]) => {
    const jwk = crypto.generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
    return { ...jwk, use: 'sig', alg, kid: `${alg}-${crypto.randomBytes(4).toString('hex')}` };
  }) };
}

function provider(issuer, adapter) {
  const made = new Provider(issuer, {
    jwks: keys(),
    cookies: { keys: [crypto.randomBytes(16).toString('hex')] },
    clients: [
      { client_id: 'bastion-cli', token_endpoint_auth_method: 'none', application_type: 'native',
        grant_types: [DEVICE, 'refresh_token'], response_types: [], redirect_uris: [] },
      { client_id: 'other-app', token_endpoint_auth_method: 'none', application_type: 'native',
        grant_types: [DEVICE], response_types: [], redirect_uris: [] },
      { client_id: 'bastion-ci', client_secret: 'secret-of-the-robot-0123456789abcdef', response_types: [],
        grant_types: ['client_credentials'], redirect_uris: [], token_endpoint_auth_method: 'client_secret_basic' },
    ],
    scopes: ['openid', 'offline_access', 'profile', 'groups'],
    claims: { openid: ['sub'], profile: ['name'], groups: ['groups'] },
    conformIdTokenClaims: false,
    ttl: {
      AccessToken: () => settings.accessTtl, ClientCredentials: () => settings.accessTtl,
      DeviceCode: () => settings.deviceTtl, IdToken: 600, RefreshToken: 86400, Interaction: 3600, Session: 86400,
      Grant: 86400,
    },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx) => (ctx.oidc.params?.grant_type === 'client_credentials' ? AUDIENCE : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => {
          if (resource !== AUDIENCE) throw new errors.InvalidTarget();
          return { scope: '', audience: AUDIENCE, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
            accessTokenTTL: settings.accessTtl };
        },
      },
    },
    extraTokenClaims: (ctx, token) => (token.accountId ? ACCOUNTS[token.accountId] : { groups: ['robots'] }),
    issueRefreshToken: (ctx, client, code) =>
      client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
    rotateRefreshToken: true,
    findAccount: (ctx, id) => ACCOUNTS[id] && { accountId: id, claims: () => ({ sub: id, ...ACCOUNTS[id] }) },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  });
  made.use(pages(made));
  made.use(pace());
  return made;
}

const fields = async (req) => {
  let text = '';
  for await (const part of req) text += part;
  return querystring.parse(text);
};

/** The login and consent pages: forms that say which they are. */
function pages(made) {
  return async (ctx, next) => {
    if (!ctx.path.startsWith('/interaction/')) return next();
    const found = await made.interactionDetails(ctx.req, ctx.res);
    if (ctx.method === 'GET') {
      ctx.type = 'html';
      ctx.body = `<form method="post" data-prompt="${found.prompt.name}"></form>`;
      return undefined;
    }
    const given = await fields(ctx.req);
    ctx.respond = false; // interactionFinished answers by itself
    if (found.prompt.name === 'login') {
      return made.interactionFinished(ctx.req, ctx.res, { login: { accountId: given.account } });
    }
    const grant = new made.Grant({ accountId: found.session.accountId, clientId: found.params.client_id });
    const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = found.prompt.details;
    if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
    if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
    for (const [name, scopes] of Object.entries(missingResourceScopes ?? {})) {
      grant.addResourceScope(name, scopes.join(' '));
    }
    const consent = { grantId: await grant.save() };
    return made.interactionFinished(ctx.req, ctx.res, { consent }, { mergeWithLastSubmission: true });
  };
}

function pace() {
  const polled = new Map();
  return async (ctx, next) => {
    await next();
    if (settings.interval && ctx.path === '/device/auth' && ctx.body?.device_code) ctx.body.interval = settings.interval;
    if (!settings.slowDown || ctx.path !== '/token' || ctx.body?.error !== 'authorization_pending') return;
    const code = ctx.oidc.params.device_code;
    const seen = polled.get(code) ?? { at: 0, wait: (settings.interval || 5) * 1000 };
    if (seen.at && Date.now() - seen.at < seen.wait - 50) {
      seen.wait += 5000;
      ctx.body = { error: 'slow_down' };
    }
    polled.set(code, { ...seen, at: Date.now() });
  };
}

/** What only tests may do: POST /_test with {settings}, {advance: seconds}, {rotate: true}, {reset: true}. */
async function control(req, res) {
  let text = '';
  for await (const part of req) text += part;
  const asked = JSON.parse(text);
  if (asked.reset) settings = { ...DEFAULTS };
  if (asked.settings) Object.assign(settings, asked.settings);
  if (asked.advance) offset += asked.advance * 1000;
  if (asked.rotate) answer = provider(issuer).callback();
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify({ now: Date.now() / 1000 }));
}

let answer;
let issuer;
const server = http.createServer((req, res) => (req.url === '/_test' ? control(req, res) : answer(req, res)));
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  answer = provider(issuer).callback();
  console.log(`ready ${issuer}`);
});
// The end of the test process is the end of this one, however it comes.
process.stdin.resume().on('end', () => process.exit(0));
