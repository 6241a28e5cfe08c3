#include "split_row.h"

#include "../dispatch.h"

namespace deeplab2_d2 {
namespace {

template <typename pixel_t>
inline __attribute__((always_inline)) void split(const pixel_t* pixels, int64_t width,
                                                 int64_t channels, float* out) {
  if (channels == 3) {
    float *red = out, *green = out + width, *blue = out + 2 * width;
    for (int64_t x = 0; x < width; ++x) {
      red[x] = static_cast<float>(pixels[3 * x]);
      green[x] = static_cast<float>(pixels[3 * x + 1]);
      blue[x] = static_cast<float>(pixels[3 * x + 2]);
    }
    return;
  }
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t x = 0; x < width; ++x) {
      out[c * width + x] = static_cast<float>(pixels[x * channels + c]);
    }
  }
}

}  // namespace

DEEPLAB2_D2_CLONES
void split_row(const uint8_t* pixels, int64_t width, int64_t channels, float* out) {
  split(pixels, width, channels, out);
}

DEEPLAB2_D2_CLONES
void split_row(const float* pixels, int64_t width, int64_t channels, float* out) {
  split(pixels, width, channels, out);
}

}  // namespace deeplab2_d2
