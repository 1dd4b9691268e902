// Scalar functions that the losses share; none overflows to NaN for arguments up to 1e6.

// log(1 + e^x) = -log sigmoid(-x)
export function softplus(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

export function sigmoid(x) {
  const tail = Math.exp(-Math.abs(x));
  return (x < 0 ? tail : 1) / (1 + tail);
}

// A link turns a margin m into [loss, slope by m].
export function logistic(m) {
  return [softplus(-m), -sigmoid(-m)];
}

// Cross-entropy against labels that are wrong with probability e.
export function smoothed(m, e) {
  return [(1 - e) * softplus(-m) + e * softplus(m), e * sigmoid(m) - (1 - e) * sigmoid(-m)];
}

// Its mean over labels flipped with probability e is `logistic`; no lower bound for e > 0.
export function unbiased(m, e) {
  const scale = 1 - 2 * e;
  return [
    ((1 - e) * softplus(-m) - e * softplus(m)) / scale,
    (-(1 - e) * sigmoid(-m) - e * sigmoid(m)) / scale,
  ];
}

// The slope at the kink is 0, as torch.relu has it.
export function relu(x) {
  return x > 0 ? [x, 1] : [0, 0];
}

// KL((sigmoid(m), sigmoid(-m)) || (1 - e, e))
export function reverseKl(m, e) {
  const right = -softplus(-m) - Math.log1p(-e);
  const wrong = -softplus(m) - Math.log(e);
  const [p, q] = [sigmoid(m), sigmoid(-m)];
  return [p * right + q * wrong, p * q * (m - Math.log1p(-e) + Math.log(e))];
}

// (1 - s) (-log sigmoid(m)) + s exp(-m), with s = sigmoid(m / tau)
export function discovered(m, tau) {
  const share = m / tau;
  const exponential = Math.exp(-softplus(-share) - m);
  const [p, q] = [sigmoid(share), sigmoid(-share)];
  return [
    exponential + q * softplus(-m),
    exponential * (q / tau - 1) - ((p * q) / tau) * softplus(-m) - q * sigmoid(-m),
  ];
}

// e^x - 1 up to x = 50 and its tangent from there on: [value, slope].
export function expm1WithTangent(x) {
  const capped = Math.min(x, 50);
  const slope = Math.exp(capped);
  return [Math.expm1(capped) + (x - capped) * slope, slope];
}

// log(p / (1 - p)) from l = log p, with l ending one float32 step below 0: [value, slope by l].
export function logOdds(logp) {
  const l = Math.min(logp, -(2 ** -23));
  const rest = l > -Math.LN2 ? Math.log(-Math.expm1(l)) : Math.log1p(-Math.exp(l));
  return [l - rest, l < logp ? 0 : -1 / Math.expm1(l)];
}
