// Load on the service, by k6: what __ENV.WHAT says, at a constant arrival rate or as one burst.
import http from 'k6/http';
import { check } from 'k6';
import exec from 'k6/execution';

const rate = Number(__ENV.RATE || 0);
const threads = { preAllocatedVUs: 50, maxVUs: 400 };
export const options = {
  discardResponseBodies: true,
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
  scenarios: {
    load: rate
      ? { executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: `${__ENV.SECONDS}s`, ...threads }
      : { executor: 'shared-iterations', vus: 32, iterations: Number(__ENV.COUNT), maxDuration: '5m' },
  },
};
const headers = { Authorization: `Bearer ${__ENV.TOKEN}`, 'Content-Type': 'application/json' };

export default function () {
  if (__ENV.WHAT === 'get') {
    check(http.get(__ENV.URL, { headers }), { answered: (r) => r.status === 200 });
    return;
  }
  const seed = Number(__ENV.FIRST || 0) + exec.scenario.iterationInTest;
  const body = JSON.stringify({ source: __ENV.SOURCE, depth: 'sample', seed, force: true });
  check(http.post(__ENV.URL, body, { headers }), { answered: (r) => r.status === 202 });
}
