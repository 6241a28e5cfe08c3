#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "depthwise_convolution.h"
#include "depthwise_convolution_loops.h"

namespace deeplab2_d2 {
namespace {

// Multiplications that are worth a thread.
constexpr int64_t kWorkPerTask = 1 << 18;
// Pixels of a row that are computed before those below them: the rows that both read stay in the
// cache. So many, or as many as have so many values in those rows.
constexpr int64_t kSpanPixels = 64;
constexpr int64_t kSpanValues = 96 * 1024;

// One axis of the convolution.
struct Axis {
  int64_t size, kernel_size, stride, padding, dilation, output_size;

  // Of an output pixel the taps [first_tap, end_tap) lie in the features, if there are any.
  int64_t first_tap(int64_t output) const { return num_taps_before(padding - output * stride); }
  int64_t end_tap(int64_t output) const {
    return num_taps_before(size + padding - output * stride);
  }
  int64_t position(int64_t output, int64_t tap) const {
    return output * stride - padding + tap * dilation;
  }

 private:
  // Of a distance from the first tap on.
  int64_t num_taps_before(int64_t distance) const {
    return std::min((std::max<int64_t>(distance, 0) + dilation - 1) / dilation, kernel_size);
  }
};

// Output pixels [begin, end) of a row that have the same taps.
struct Span {
  int64_t begin, end, first_tap, num_taps;
};

// Of most_pixels at most.
std::vector<Span> make_spans(const Axis& axis, int64_t most_pixels) {
  std::vector<Span> spans;
  for (int64_t x = 0; x < axis.output_size; ++x) {
    const int64_t first = axis.first_tap(x);
    const int64_t count = std::max<int64_t>(axis.end_tap(x) - first, 0);
    if (spans.empty() || spans.back().first_tap != first || spans.back().num_taps != count ||
        x - spans.back().begin == most_pixels) {
      spans.push_back({x, x, first, count});
    }
    spans.back().end = x + 1;
  }
  return spans;
}

// What all pixels share.
DepthwiseRun make_run(const Axis& y, const Axis& x, int64_t channels, Activation activation) {
  DepthwiseRun run{};
  run.row_step = y.dilation * x.size * channels;
  run.column_step = x.dilation * channels;
  run.weight_row_step = x.kernel_size * channels;
  run.weight_column_step = channels;
  run.input_step = x.stride * channels;
  run.output_step = channels;
  run.channels = channels;
  run.activation = activation;
  return run;
}

// Rows [first, end) of an image's output.
template <typename T>
void convolve_rows(const Axis& y, const Axis& x, const std::vector<Span>& spans, DepthwiseRun run,
                   int64_t first, int64_t end, const T* features, const float* weight,
                   const float* bias, T* output) {
  for (const Span& span : spans) {
    run.num_pixels = span.end - span.begin;
    for (int64_t row = first; row < end; ++row) {
      const int64_t tap = y.first_tap(row);
      run.num_rows = std::max<int64_t>(y.end_tap(row) - tap, 0);
      run.num_columns = run.num_rows > 0 ? span.num_taps : 0;
      const bool has_taps = run.num_columns > 0;
      const int64_t pixel = y.position(row, tap) * x.size + x.position(span.begin, span.first_tap);
      const int64_t scale = tap * x.kernel_size + span.first_tap;
      convolve_run(run, features + (has_taps ? pixel * run.channels : 0),
                   weight + (has_taps ? scale * run.channels : 0), bias,
                   output + (row * x.output_size + span.begin) * run.channels);
    }
  }
}

template <typename T>
void convolve_images(const Axis& y, const Axis& x, Activation activation,
                     const at::Tensor& features, const at::Tensor& weight, const at::Tensor& bias,
                     const at::Tensor& output) {
  const int64_t channels = features.size(1);
  const std::vector<Span> spans =
      make_spans(x, std::max(kSpanPixels, kSpanValues / (channels * y.kernel_size * x.stride)));
  const DepthwiseRun run = make_run(y, x, channels, activation);
  const T* in = static_cast<const T*>(features.const_data_ptr());
  T* out = static_cast<T*>(output.mutable_data_ptr());
  const int64_t row_work = x.output_size * channels * y.kernel_size * x.kernel_size;
  // Rows of all images, one after the other.
  at::parallel_for(0, features.size(0) * y.output_size,
                   std::max<int64_t>(kWorkPerTask / row_work, 1), [&](int64_t begin, int64_t end) {
                     while (begin < end) {
                       const int64_t image = begin / y.output_size, first = begin % y.output_size;
                       const int64_t count = std::min(end - begin, y.output_size - first);
                       convolve_rows(y, x, spans, run, first, first + count,
                                     in + image * y.size * x.size * channels,
                                     weight.const_data_ptr<float>(), bias.const_data_ptr<float>(),
                                     out + image * y.output_size * x.output_size * channels);
                       begin += count;
                     }
                   });
}

at::Tensor depthwise_convolution_cpu(const at::Tensor& features, const at::Tensor& weight,
                                     const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                                     at::IntArrayRef padding, at::IntArrayRef dilation,
                                     c10::string_view activation) {
  check_depthwise(features, weight, bias, stride, padding, dilation);
  const Activation function = activation_of("depthwise_convolution", activation);
  const auto make_axis = [&](int i) {
    const int64_t size = features.size(2 + i), kernel_size = weight.size(1 + i);
    const int64_t reach = dilation[i] * (kernel_size - 1) + 1;
    const int64_t output_size = (size + 2 * padding[i] - reach) / stride[i] + 1;
    return Axis{size, kernel_size, stride[i], padding[i], dilation[i], output_size};
  };
  const Axis y = make_axis(0), x = make_axis(1);
  const int64_t channels = features.size(1);
  const at::Tensor source = features.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor taps = weight.permute({1, 2, 0}).contiguous();
  const at::Tensor offsets =
      bias.has_value() ? bias->contiguous() : at::zeros({channels}, weight.options());
  at::Tensor output = at::empty({features.size(0), channels, y.output_size, x.output_size},
                                features.options(), at::MemoryFormat::ChannelsLast);
  if (output.numel() == 0) {
    return output;
  }
  if (features.scalar_type() == at::kFloat) {
    convolve_images<float>(y, x, function, source, taps, offsets, output);
  } else {
    convolve_images<uint16_t>(y, x, function, source, taps, offsets, output);
  }
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) {
  m.impl("depthwise_convolution", &depthwise_convolution_cpu);
}

}  // namespace deeplab2_d2
