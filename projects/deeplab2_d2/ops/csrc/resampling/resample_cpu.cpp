#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "large_pages.h"
#include "map_rows.h"
#include "resample.h"

namespace deeplab2_d2 {
namespace {

// Output pixels that are worth a thread.
constexpr int64_t kPixelsPerTask = 32768;

int64_t rows_per_task(const MapFrame& frame) {
  return std::max<int64_t>(kPixelsPerTask / frame.width, 1);
}

at::Tensor resample_aligned_cpu(const at::Tensor& maps, at::IntArrayRef size,
                                at::ArrayRef<double> scale) {
  check_resampling("resample_aligned", maps, size, scale);
  const at::Tensor source = maps.to(at::kFloat).contiguous();
  const MapFrame frame(maps.size(2), maps.size(3), size, scale);
  at::Tensor output = at::empty({maps.size(0), maps.size(1), size[0], size[1]}, source.options());
  const float* in = source.const_data_ptr<float>();
  float* out = output.mutable_data_ptr<float>();
  advise_large_pages(out, output.nbytes());
  // Rows of all maps, one after the other.
  const int64_t num_rows = maps.size(0) * maps.size(1) * frame.height;
  at::parallel_for(0, num_rows, rows_per_task(frame), [&](int64_t begin, int64_t end) {
    MapRows rows(frame, 1);
    for (int64_t row = begin; row < end; ++row) {
      const float* map = in + row / frame.height * frame.map_area();
      const int64_t y = row % frame.height;
      if (frame.is_identity()) {
        std::copy_n(map + y * frame.width, frame.width, out + row * frame.width);
      } else {
        rows.blend(map, y, 1.0f, 0);
        rows.expand(0, 0, frame.width, out + row * frame.width);
      }
    }
  });
  return output;
}

at::Tensor resample_argmax_cpu(const at::Tensor& maps, at::IntArrayRef size,
                               at::ArrayRef<double> scale) {
  check_resampling("resample_argmax", maps, size, scale);
  const at::Tensor source = maps.to(at::kFloat).contiguous();
  const MapFrame frame(maps.size(2), maps.size(3), size, scale);
  const int64_t num_channels = maps.size(1);
  at::Tensor output = at::empty({maps.size(0), size[0], size[1]}, source.options().dtype(at::kInt));
  const float* in = source.const_data_ptr<float>();
  int32_t* out = output.mutable_data_ptr<int32_t>();
  // Rows of all images, one after the other.
  const int64_t num_rows = maps.size(0) * frame.height;
  const int64_t per_task = std::max<int64_t>(rows_per_task(frame) / num_channels, 1);
  at::parallel_for(0, num_rows, per_task, [&](int64_t begin, int64_t end) {
    ChannelRows rows(frame, num_channels);
    std::vector<float> best(kChannelPixels);
    for (int64_t row = begin; row < end; ++row) {
      const float* image = in + row / frame.height * num_channels * frame.map_area();
      const int64_t y = row % frame.height;
      rows.start(image, y);
      for (int64_t first = 0; first < frame.width; first += kChannelPixels) {
        const int64_t count = std::min(kChannelPixels, frame.width - first);
        int64_t stride;
        const float* values = rows.values(image, y, first, count, stride);
        largest_channel(values, stride, num_channels, count, best.data(),
                        out + row * frame.width + first);
      }
    }
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) {
  m.impl("resample_aligned", &resample_aligned_cpu);
  m.impl("resample_argmax", &resample_argmax_cpu);
}

}  // namespace deeplab2_d2
