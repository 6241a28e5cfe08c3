#include "winograd_loops.h"

#include "../activate.h"
#include "../dispatch.h"
// Last.
#include "../joined_sums.h"

namespace deeplab2_d2 {
namespace {

constexpr int kLanes = 8;
constexpr int kPanelVectors = kPanel / kLanes;

// The polynomials are evaluated at 0, +-a, +-b and infinity, with a * b = 1: of such points these
// leave small rounding errors, a fifth of those of the usual 0, +-1, +-2.
constexpr float kA = 2.0f / 3.0f, kB = 3.0f / 2.0f;
constexpr float kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;
// Factors of the kernel's values at +-a and +-b: 1 / (2 a^2 (a^2 - b^2)), and a and b exchanged.
constexpr float kScaleA = 1.0f / (2.0f * kA2 * (kA2 - kB2));
constexpr float kScaleB = 1.0f / (2.0f * kB2 * (kB2 - kA2));

// 6 values of the features, with any step, to their 6 places.
template <typename Vector>
DEEPLAB2_D2_INLINE void transform_inputs(const Vector* from, int step, Vector* to, int to_step) {
  const Vector x0 = from[0], x1 = from[step], x2 = from[2 * step], x3 = from[3 * step],
               x4 = from[4 * step], x5 = from[5 * step];
  to[0] = x4 - (kA2 + kB2) * x2 + x0;
  const Vector even_a = x4 - kB2 * x2, odd_a = kA * (x3 - kB2 * x1);
  to[to_step] = even_a + odd_a;
  to[2 * to_step] = even_a - odd_a;
  const Vector even_b = x4 - kA2 * x2, odd_b = kB * (x3 - kA2 * x1);
  to[3 * to_step] = even_b + odd_b;
  to[4 * to_step] = even_b - odd_b;
  to[5 * to_step] = x5 - (kA2 + kB2) * x3 + x1;
}

// 3 values of a kernel to their 6 places.
template <typename Vector>
DEEPLAB2_D2_INLINE void transform_taps(const Vector* from, int step, Vector* to, int to_step) {
  const Vector w0 = from[0], w1 = from[step], w2 = from[2 * step];
  to[0] = w0;
  const Vector even_a = kScaleA * (w0 + kA2 * w2), odd_a = (kScaleA * kA) * w1;
  to[to_step] = even_a + odd_a;
  to[2 * to_step] = even_a - odd_a;
  const Vector even_b = kScaleB * (w0 + kB2 * w2), odd_b = (kScaleB * kB) * w1;
  to[3 * to_step] = even_b + odd_b;
  to[4 * to_step] = even_b - odd_b;
  to[5 * to_step] = w2;
}

// 6 places of sums to 4 outputs.
template <typename Vector>
DEEPLAB2_D2_INLINE void transform_sums(const Vector* from, int step, Vector* to, int to_step) {
  const Vector even_a = from[step] + from[2 * step], odd_a = from[step] - from[2 * step];
  const Vector even_b = from[3 * step] + from[4 * step], odd_b = from[3 * step] - from[4 * step];
  to[0] = from[0] + even_a + even_b;
  to[to_step] = kA * odd_a + kB * odd_b;
  to[2 * to_step] = kA2 * even_a + kB2 * even_b;
  to[3 * to_step] = kA3 * odd_a + kB3 * odd_b + from[5 * step];
}

// All loops over places are unrolled: what they index stays in registers, as far as there are some.
template <int num_lanes>
DEEPLAB2_D2_INLINE void transform_kernel_lanes(const float* weight, int64_t tap_step,
                                               int64_t plane_step, float* panels) {
  using Vector = typename Lanes<float, num_lanes>::type;
  Vector columns[3 * kTileInputs];
#pragma GCC unroll 3
  for (int x = 0; x < 3; ++x) {
    Vector taps[3];
#pragma GCC unroll 3
    for (int y = 0; y < 3; ++y) {
      load(weight + (3 * y + x) * tap_step, taps[y]);
    }
    transform_taps(taps, 1, columns + x, 3);
  }
#pragma GCC unroll 6
  for (int y = 0; y < kTileInputs; ++y) {
    Vector values[kTileInputs];
    transform_taps(columns + 3 * y, 1, values, 1);
#pragma GCC unroll 6
    for (int x = 0; x < kTileInputs; ++x) {
      store(values[x], panels + (kTileInputs * y + x) * plane_step);
    }
  }
}

template <int num_lanes>
DEEPLAB2_D2_INLINE void transform_tile_lanes(const float* const* pixels, int64_t channel,
                                             int64_t plane_step, float* values) {
  using Vector = typename Lanes<float, num_lanes>::type;
  Vector columns[kPlaces];
#pragma GCC unroll 6
  for (int x = 0; x < kTileInputs; ++x) {
    Vector inputs[kTileInputs];
#pragma GCC unroll 6
    for (int y = 0; y < kTileInputs; ++y) {
      load(pixels[kTileInputs * y + x] + channel, inputs[y]);
    }
    transform_inputs(inputs, 1, columns + x, kTileInputs);
  }
  float* to = values + channel;
#pragma GCC unroll 6
  for (int y = 0; y < kTileInputs; ++y) {
    Vector row[kTileInputs];
    transform_inputs(columns + kTileInputs * y, 1, row, 1);
#pragma GCC unroll 6
    for (int x = 0; x < kTileInputs; ++x) {
      store(row[x], to);
      to += plane_step;
    }
  }
}

template <int num_lanes>
DEEPLAB2_D2_INLINE void finish_tile_lanes(const float* sums, int64_t plane_step, int64_t channel,
                                          const float* bias, Activation activation,
                                          float* const* pixels) {
  using Vector = typename Lanes<float, num_lanes>::type;
  Vector rows[kTileInputs * kTileOutputs], offset;
  const float* from = sums + channel;
#pragma GCC unroll 6
  for (int y = 0; y < kTileInputs; ++y) {
    Vector places[kTileInputs];
#pragma GCC unroll 6
    for (int x = 0; x < kTileInputs; ++x) {
      load(from, places[x]);
      from += plane_step;
    }
    transform_sums(places, 1, rows + kTileOutputs * y, 1);
  }
  load(bias + channel, offset);
#pragma GCC unroll 4
  for (int x = 0; x < kTileOutputs; ++x) {
    Vector outputs[kTileOutputs];
    transform_sums(rows + x, kTileOutputs, outputs, 1);
#pragma GCC unroll 4
    for (int y = 0; y < kTileOutputs; ++y) {
      outputs[y] = outputs[y] + offset;
    }
    activate(activation, kTileOutputs, outputs);
#pragma GCC unroll 4
    for (int y = 0; y < kTileOutputs; ++y) {
      store(outputs[y], pixels[kTileOutputs * y + x] + channel);
    }
  }
}

}  // namespace

DEEPLAB2_D2_CLONES void transform_kernels(const float* weight, int64_t channels, int64_t outputs,
                                          int64_t first, int64_t plane_step, float* panels) {
  const int64_t tap_step = channels * outputs;
  for (int64_t channel = 0; channel < channels; ++channel) {
    const float* row = weight + channel * outputs + first;
    float* to = panels + channel * kPanel;
    int64_t i = 0;
    for (; i + kLanes <= kPanel && first + i + kLanes <= outputs; i += kLanes) {
      transform_kernel_lanes<kLanes>(row + i, tap_step, plane_step, to + i);
    }
    for (; i < kPanel; ++i) {
      if (first + i < outputs) {
        transform_kernel_lanes<1>(row + i, tap_step, plane_step, to + i);
      } else {
        for (int place = 0; place < kPlaces; ++place) {
          to[place * plane_step + i] = 0.0f;
        }
      }
    }
  }
}

DEEPLAB2_D2_CLONES void transform_tile(const float* const* pixels, int64_t channels,
                                       int64_t plane_step, float* values) {
  int64_t channel = 0;
  for (; channel + kLanes <= channels; channel += kLanes) {
    transform_tile_lanes<kLanes>(pixels, channel, plane_step, values);
  }
  for (; channel < channels; ++channel) {
    transform_tile_lanes<1>(pixels, channel, plane_step, values);
  }
}

DEEPLAB2_D2_CLONES void multiply_panel(const float* values, int64_t num_tiles, int64_t channels,
                                       const float* panel, int64_t sum_step, float* sums) {
  typedef typename Lanes<float, kLanes>::type Vector;
  for (int64_t tile = 0; tile < num_tiles; tile += kTilesTogether) {
    const float* rows = values + tile * channels;
    Vector totals[kTilesTogether][kPanelVectors];
#pragma GCC unroll 6
    for (int t = 0; t < kTilesTogether; ++t) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) {
        totals[t][v] = Vector{};
      }
    }
    // Of two pointers half the tiles are read, which takes fewer registers than one would.
    const float* others = rows + kTilesTogether / 2 * channels;
    for (int64_t channel = 0; channel < channels; ++channel) {
      Vector scales[kPanelVectors];
      for (int v = 0; v < kPanelVectors; ++v) {
        load(panel + channel * kPanel + v * kLanes, scales[v]);
      }
      for (int t = 0; t < kTilesTogether; ++t) {
        const float value = t < kTilesTogether / 2
                                ? rows[t * channels + channel]
                                : others[(t - kTilesTogether / 2) * channels + channel];
        for (int v = 0; v < kPanelVectors; ++v) {
          totals[t][v] = totals[t][v] + scales[v] * value;
        }
      }
    }
#pragma GCC unroll 6
    for (int t = 0; t < kTilesTogether; ++t) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) {
        store(totals[t][v], sums + (tile + t) * sum_step + v * kLanes);
      }
    }
  }
}

DEEPLAB2_D2_CLONES void finish_tile(const float* sums, int64_t plane_step, int64_t outputs,
                                    const float* bias, Activation activation,
                                    float* const* pixels) {
  int64_t channel = 0;
  for (; channel + kLanes <= outputs; channel += kLanes) {
    finish_tile_lanes<kLanes>(sums, plane_step, channel, bias, activation, pixels);
  }
  for (; channel < outputs; ++channel) {
    finish_tile_lanes<1>(sums, plane_step, channel, bias, activation, pixels);
  }
}

}  // namespace deeplab2_d2
