// A row of pixels, channel by channel.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// out[c * width + x] = pixels[x * channels + c]
void split_row(const uint8_t* pixels, int64_t width, int64_t channels, float* out);
void split_row(const float* pixels, int64_t width, int64_t channels, float* out);

}  // namespace deeplab2_d2
