#include "map_rows.h"

#include "../dispatch.h"
#include "../ordering.h"

namespace deeplab2_d2 {

DEEPLAB2_D2_CLONES
void largest_channel(const float* values, int64_t stride, int64_t num_channels, int64_t count,
                     float* best, int32_t* channel) {
  for (int64_t x = 0; x < count; ++x) {
    best[x] = values[x];
    channel[x] = 0;
  }
  for (int64_t c = 1; c < num_channels; ++c) {
    const float* row = values + c * stride;
    for (int64_t x = 0; x < count; ++x) {
      const bool is_larger = is_new_largest(row[x], best[x]);
      channel[x] = is_larger ? static_cast<int32_t>(c) : channel[x];
      best[x] = is_larger ? row[x] : best[x];
    }
  }
}

}  // namespace deeplab2_d2
