#include "../dispatch.h"
#include "resampling.h"

namespace deeplab2_d2 {

DEEPLAB2_D2_CLONES
void blend_rows(const float* above, const float* below, float weight, int64_t width, float* out) {
  for (int64_t x = 0; x < width; ++x) {
    out[x] = above[x] + (below[x] - above[x]) * weight;
  }
}

DEEPLAB2_D2_CLONES
void blend_scaled_rows(const float* above, const float* below, float factor, float weight,
                       int64_t width, float* out) {
  for (int64_t x = 0; x < width; ++x) {
    const float a = above[x] * factor;
    const float b = below[x] * factor;
    out[x] = a + (b - a) * weight;
  }
}

DEEPLAB2_D2_CLONES
void row_steps(const float* row, int64_t width, float* step) {
  for (int64_t x = 0; x + 1 < width; ++x) {
    step[x] = row[x + 1] - row[x];
  }
  step[width - 1] = row[width - 1] - row[width - 1];
}

DEEPLAB2_D2_CLONES
void expand_row(const float* row, const float* step, const int32_t* lower, const float* weight,
                int64_t count, float* out) {
  for (int64_t x = 0; x < count; ++x) {
    out[x] = row[lower[x]] + step[lower[x]] * weight[x];
  }
}

#if defined(__GNUC__) && !defined(__clang__)

// GCC makes one instruction of the shuffle where the processor has one; Clang has none for places
// that are not constant.
DEEPLAB2_D2_CLONES
void expand_near_row(const float* row, const float* step, const int32_t* lower, const float* weight,
                     int64_t count, float* out) {
  typedef float Floats __attribute__((vector_size(32), aligned(4)));
  typedef int32_t Integers __attribute__((vector_size(32), aligned(4)));
  int64_t x = 0;
  for (; x + 8 <= count; x += 8) {
    const int32_t first = lower[x];
    const Integers place = *reinterpret_cast<const Integers*>(lower + x) - first;
    const Floats left = __builtin_shuffle(*reinterpret_cast<const Floats*>(row + first), place);
    const Floats rise = __builtin_shuffle(*reinterpret_cast<const Floats*>(step + first), place);
    *reinterpret_cast<Floats*>(out + x) =
        left + rise * *reinterpret_cast<const Floats*>(weight + x);
  }
  for (; x < count; ++x) {
    out[x] = row[lower[x]] + step[lower[x]] * weight[x];
  }
}

#else

void expand_near_row(const float* row, const float* step, const int32_t* lower, const float* weight,
                     int64_t count, float* out) {
  expand_row(row, step, lower, weight, count, out);
}

#endif

void expand_row_by_4(const float* row, const float* step, int64_t count, float* out) {
  // A vector extension of GCC and Clang, on every processor.
  typedef float Vector4 __attribute__((vector_size(16), aligned(4)));
  const Vector4 weight = {0.0f, 0.25f, 0.5f, 0.75f};
  int64_t x = 0;
  for (; x + 4 <= count; x += 4) {
    *reinterpret_cast<Vector4*>(out + x) = row[x / 4] + step[x / 4] * weight;
  }
  for (; x < count; ++x) {
    out[x] = row[x / 4] + step[x / 4] * (0.25f * static_cast<float>(x % 4));
  }
}

}  // namespace deeplab2_d2
