// Checks of arguments that several operators have.
#pragma once

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <cstdint>

namespace deeplab2_d2 {

// The output's size, and source pixels per output pixel.
inline void check_frame(const char* name, at::IntArrayRef size, at::ArrayRef<double> scale) {
  constexpr int64_t kTooMany = int64_t(1) << 31;
  TORCH_CHECK(size.size() == 2 && size[0] > 0 && size[1] > 0 && size[0] < kTooMany / size[1], name,
              ": size must be (height, width) of 1 to 2**31 - 1 pixels, got ", size);
  constexpr double kTooFar = static_cast<double>(kTooMany);
  TORCH_CHECK(scale.size() == 2 && scale[0] >= 0 && scale[1] >= 0 && scale[0] * size[0] < kTooFar &&
                  scale[1] * size[1] < kTooFar,
              name, ": scale must be two numbers of at least 0, positions less than 2**31, got ",
              scale, " for a size of ", size);
}

}  // namespace deeplab2_d2
