// exp() and log() from additions and multiplications: a compiler can vectorise them, and every
// device gives the same. In ops/reference/exponential.py operation by operation.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define DEEPLAB2_D2_EVERYWHERE __host__ __device__
#else
#define DEEPLAB2_D2_EVERYWHERE
#endif

namespace deeplab2_d2 {

// exp(x) without the power of 2 that x is `whole` natural logarithms of 2 from: Cody-Waite
// reduction and a Taylor polynomial.
DEEPLAB2_D2_EVERYWHERE inline __attribute__((always_inline)) float exp_reduced(float x,
                                                                               float whole) {
  const float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p;
}

// exp(x) for x <= 0, within 2.5e-7 relative; NaN for NaN.
DEEPLAB2_D2_EVERYWHERE inline __attribute__((always_inline)) float exp_nonpositive(float x) {
  const float limited = x > -87.0f ? x : -87.0f;  // a number, which alone an integer can hold
  x = x < -87.0f ? -87.0f : x;
  const int32_t n = static_cast<int32_t>(limited * 1.44269504f - 0.5f);
  const int32_t bits = (n + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return exp_reduced(x, static_cast<float>(n)) * power;
}

inline double exp_nonpositive(double x) { return std::exp(x); }

// exp(x) for x <= 0, within 1e-15 relative and the same on every device; NaN for NaN.
DEEPLAB2_D2_EVERYWHERE inline double exp_nonpositive_double(double x) {
  const double limited = x > -700.0 ? x : -700.0;
  x = x < -700.0 ? -700.0 : x;
  const int64_t n = static_cast<int64_t>(limited * 1.4426950408889634 - 0.5);
  const double whole = static_cast<double>(n);
  const double r = (x - whole * 0.693147180369123816490) - whole * 1.90821492927058770002e-10;
  double factorial = 6227020800.0;  // 13!
  double p = 1.0 / factorial;
  for (int power = 13; power > 0; --power) {
    factorial /= power;
    p = p * r + 1.0 / factorial;
  }
  const int64_t bits = (n + 1023) << 52;
  double scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return p * scale;
}

// log(x) for normal x > 0, within 2e-14: exponent times ln 2, and the series of artanh.
DEEPLAB2_D2_EVERYWHERE inline double log_positive(double x) {
  int64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  int64_t exponent = (bits >> 52) - 1022;
  bits = (bits & ((int64_t(1) << 52) - 1)) | (int64_t(1022) << 52);
  double mantissa;  // in [0.5, 1)
  std::memcpy(&mantissa, &bits, sizeof(mantissa));
  if (mantissa < 0.75) {
    mantissa *= 2.0;
    --exponent;
  }
  const double z = (mantissa - 1.0) / (mantissa + 1.0);
  const double square = z * z;
  double series = 1.0 / 21.0;
  for (int odd = 19; odd > 0; odd -= 2) {
    series = series * square + 1.0 / odd;
  }
  return static_cast<double>(exponent) * 0.6931471805599453 + 2.0 * z * series;
}

}  // namespace deeplab2_d2
