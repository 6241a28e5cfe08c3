// exp() that a compiler can vectorise.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace deeplab2_d2 {

// exp(x) for x <= 0, within 2e-7 relative; Cody-Waite reduction and a Taylor polynomial.
inline __attribute__((always_inline)) float exp_nonpositive(float x) {
  x = x > -87.0f ? x : -87.0f;
  const int32_t n = static_cast<int32_t>(x * 1.44269504f - 0.5f);
  const float r =
      (x - static_cast<float>(n) * 0.693359375f) - static_cast<float>(n) * -2.12194440e-4f;
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t bits = (n + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}

inline double exp_nonpositive(double x) { return std::exp(x); }

}  // namespace deeplab2_d2
