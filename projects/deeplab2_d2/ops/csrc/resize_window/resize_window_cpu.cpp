// Part of a resized image, with its channels first.
//
// The contract is the docstring of `deeplab2_d2.ops.resize_window`.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <vector>

#include "../checks.h"
#include "../resampling/large_pages.h"
#include "../resampling/resampling.h"
#include "split_row.h"

namespace deeplab2_d2 {
namespace {

// Output pixels that are worth a thread.
constexpr int64_t kPixelsPerTask = 32768;

// What one axis of the window shows of an axis of the resized image.
struct WindowAxis {
  AxisPositions<float> positions;  // of the resized image
  int64_t first, end;              // pixels of the window that are of the image
  int64_t image_first;             // the resized image's pixel at `first`
  int64_t source_first, source_length;

  WindowAxis(int64_t length, int64_t size, double scale, int64_t start, int64_t window)
      : positions(size, length, static_cast<float>(scale)),
        first(std::clamp<int64_t>(-start, 0, window)),
        end(std::max(first, std::clamp<int64_t>(size - start, 0, window))),
        image_first(start + first),
        source_first(0),
        source_length(0) {
    if (first < end) {
      source_first = positions.lower[image_first];
      const int64_t last = positions.lower[image_first + end - first - 1];
      source_length = std::min(last + 2, length) - source_first;
    }
    for (int32_t& lower : positions.lower) {
      lower -= static_cast<int32_t>(source_first);
    }
  }

  bool is_empty() const { return first == end; }
};

// The two source rows between which an output row lies, channel after channel.
template <typename pixel_t>
class SourceRows {
 public:
  SourceRows(const pixel_t* image, int64_t width, int64_t channels, const WindowAxis& columns)
      : image_(image + columns.source_first * channels),
        stride_(width * channels),
        channels_(channels),
        length_(columns.source_length) {
    rows_.fill(std::vector<float>(channels * length_));
  }

  // Of a source row, (C, source_length). The last two rows that were asked for stay.
  const float* get(int64_t row, int64_t kept) {
    const size_t place = held_[0] == row || (held_[1] != row && held_[1] == kept) ? 0 : 1;
    if (held_[place] != row) {
      split_row(image_ + row * stride_, length_, channels_, rows_[place].data());
      held_[place] = row;
    }
    return rows_[place].data();
  }

 private:
  const pixel_t* image_;
  int64_t stride_, channels_, length_;
  std::array<std::vector<float>, 2> rows_;
  std::array<int64_t, 2> held_{-1, -1};
};

struct Window {
  int64_t height, width, channels;
  WindowAxis rows, columns;
  float fill;
};

// Output rows begin .. end - 1 of all channels.
template <typename pixel_t>
void resize_rows(const Window& window, const pixel_t* image, int64_t image_width, int64_t begin,
                 int64_t end, float* out) {
  const WindowAxis &rows = window.rows, &columns = window.columns;
  const int64_t area = window.height * window.width, length = columns.source_length;
  const int64_t count = columns.end - columns.first;
  SourceRows<pixel_t> source(image, image_width, window.channels, columns);
  std::vector<float> blended(length + kNearPadding), steps(length + kNearPadding);
  for (int64_t y = begin; y < end; ++y) {
    const bool is_outside = y < rows.first || y >= rows.end || columns.is_empty();
    const float *above = nullptr, *below = nullptr;
    float weight = 0;
    if (!is_outside) {
      const int64_t place = rows.image_first + y - rows.first;
      const int64_t lower = rows.positions.lower[place];
      const int64_t upper = std::min(lower + 1, rows.source_length - 1);
      above = source.get(rows.source_first + lower, rows.source_first + upper);
      below = source.get(rows.source_first + upper, rows.source_first + lower);
      weight = rows.positions.weight[place];
    }
    for (int64_t c = 0; c < window.channels; ++c) {
      float* row = out + c * area + y * window.width;
      if (is_outside) {
        std::fill_n(row, window.width, window.fill);
        continue;
      }
      std::fill_n(row, columns.first, window.fill);
      std::fill(row + columns.end, row + window.width, window.fill);
      blend_rows(above + c * length, below + c * length, weight, length, blended.data());
      row_steps(blended.data(), length, steps.data());
      const auto expand = columns.positions.is_near ? expand_near_row : expand_row;
      expand(blended.data(), steps.data(), &columns.positions.lower[columns.image_first],
             &columns.positions.weight[columns.image_first], count, row + columns.first);
    }
  }
}

at::Tensor resize_window_cpu(const at::Tensor& image, at::IntArrayRef size,
                             at::ArrayRef<double> scale, at::IntArrayRef window, double fill) {
  const char* name = "resize_window";
  TORCH_CHECK(image.dim() == 3 && image.numel() > 0, name,
              ": image must be (H, W, C), not empty, got ", image.sizes());
  const bool is_bytes = image.scalar_type() == at::kByte;
  TORCH_CHECK(is_bytes || image.scalar_type() == at::kFloat, name,
              ": image must be uint8 or float32, got ", image.dtype());
  check_frame(name, size, scale);
  TORCH_CHECK(window[2] > 0 && window[3] > 0, name, ": window must have pixels, got ", window);
  const at::Tensor source = image.contiguous();
  const Window frame{window[2],
                     window[3],
                     image.size(2),
                     {image.size(0), size[0], scale[0], window[0], window[2]},
                     {image.size(1), size[1], scale[1], window[1], window[3]},
                     static_cast<float>(fill)};
  at::Tensor output =
      at::empty({frame.channels, frame.height, frame.width}, image.options().dtype(at::kFloat));
  float* out = output.mutable_data_ptr<float>();
  advise_large_pages(out, output.nbytes());
  const int64_t per_task = std::max<int64_t>(kPixelsPerTask / frame.width, 1);
  at::parallel_for(0, frame.height, per_task, [&](int64_t begin, int64_t end) {
    if (is_bytes) {
      resize_rows(frame, source.const_data_ptr<uint8_t>(), image.size(1), begin, end, out);
    } else {
      resize_rows(frame, source.const_data_ptr<float>(), image.size(1), begin, end, out);
    }
  });
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("resize_window", &resize_window_cpu); }

}  // namespace deeplab2_d2
