// Work division: one thread an output pixel upsamples all channels at its place (neighbours share
// the map's pixels in the cache) and takes the largest; the things of a block, a tile of the
// output, are compared with the centers that may be nearest to any of them (grouping_device.cuh);
// then the merge of merging_cuda.cu. With probabilities, a last kernel computes each pixel's
// softmax for the class of its segment and adds it up as an integer. No (C, H, W) tensor, no
// waiting for the GPU.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "../grouping/grouping_device.cuh"
#include "../merging/merging_device.cuh"
#include "../ordering.h"
#include "../resampling/resampling_device.cuh"
#include "panoptic.h"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;
constexpr int32_t kPixelsPerThread = 8;

// What all kernels need to know.
struct Frame {
  int32_t num_channels, map_height, map_width, height, width;
  float scale_y, scale_x, offset_scale_y, offset_scale_x;
  bool is_identity;  // the output's pixels are the maps'
};

__device__ __forceinline__ float logit(const Frame& frame, const float* logits, int32_t c,
                                       const Position& y, const Position& x) {
  const int64_t area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  return sample_or_copy(logits + c * area, frame.map_width, y, x, 1.0f, frame.is_identity);
}

__device__ __forceinline__ int32_t largest_channel(const Frame& frame, const float* logits,
                                                   const Position& y, const Position& x) {
  float best = logit(frame, logits, 0, y, x);
  int32_t channel = 0;
  for (int32_t c = 1; c < frame.num_channels; ++c) {
    const float value = logit(frame, logits, c, y, x);
    if (is_new_largest(value, best)) {
      best = value;
      channel = c;
    }
  }
  return channel;
}

__global__ void predict_kernel(Frame frame, ChannelClasses classes, ThingFlags flags,
                               const float* all_logits, const float* all_offsets,
                               const float* centers, const int32_t* num_centers, int32_t num_rows,
                               int32_t* semantic, int32_t* instance) {
  __shared__ GroupingTile tile;
  const int64_t image = blockIdx.y;
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const TilePixel pixel = tile_pixel(frame.height, frame.width);
  int32_t class_id = kVoid;
  float target_y = 0.0f, target_x = 0.0f;
  if (pixel.is_inside) {
    const Position y = position_of(pixel.y, frame.scale_y, frame.map_height);
    const Position x = position_of(pixel.x, frame.scale_x, frame.map_width);
    const float* logits = all_logits + image * frame.num_channels * map_area;
    class_id = classes.class_id[largest_channel(frame, logits, y, x)];
    const float* offsets = all_offsets + image * 2 * map_area;
    const float offset_y =
        sample_or_copy(offsets, frame.map_width, y, x, frame.offset_scale_y, frame.is_identity);
    const float offset_x = sample_or_copy(offsets + map_area, frame.map_width, y, x,
                                          frame.offset_scale_x, frame.is_identity);
    target_y = static_cast<float>(pixel.y) + offset_y;
    target_x = static_cast<float>(pixel.x) + offset_x;
  }
  const bool is_instance = class_id >= 0 && is_thing(flags, class_id);
  const int32_t center =
      nearest_center(tile, centers + image * num_rows * 2,
                     max(0, min(num_centers[image], num_rows)), is_instance, target_y, target_x);
  if (pixel.is_inside) {
    const int64_t index = (image * frame.height + pixel.y) * frame.width + pixel.x;
    semantic[index] = class_id;
    instance[index] = center;
  }
}

__global__ void probability_kernel(Frame frame, ChannelClasses classes, ThingFlags flags,
                                   const float* all_logits, const int32_t* semantic,
                                   const int32_t* instance, const int32_t* category,
                                   int32_t num_classes, int32_t num_centers,
                                   unsigned long long* sums) {
  const int64_t area = static_cast<int64_t>(frame.height) * frame.width;
  const int64_t image = blockIdx.y;
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const float* logits = all_logits + image * frame.num_channels * map_area;
  const int64_t begin =
      (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * kPixelsPerThread;
  int64_t current = -1;
  unsigned long long sum = 0;
  for (int64_t pixel = begin; pixel < min(begin + kPixelsPerThread, area); ++pixel) {
    const int64_t index = image * area + pixel;
    const int32_t row =
        segment_row(flags, semantic[index], instance[index], num_classes, num_centers);
    const int64_t segment = image * (num_centers + num_classes) + row;
    if (row < 0 || category[segment] < 0) {
      continue;
    }
    const Position y =
        position_of(static_cast<int32_t>(pixel / frame.width), frame.scale_y, frame.map_height);
    const Position x =
        position_of(static_cast<int32_t>(pixel % frame.width), frame.scale_x, frame.map_width);
    float largest = logit(frame, logits, 0, y, x), total = 1.0f, chosen = 0.0f;
    for (int32_t c = 0; c < frame.num_channels; ++c) {
      const float value = logit(frame, logits, c, y, x);
      chosen = classes.class_id[c] == category[segment] ? value : chosen;
      if (c > 0 && value > largest) {
        total = total * expf(largest - value) + 1.0f;
        largest = value;
      } else if (c > 0) {
        total += expf(value - largest);
      }
    }
    if (segment != current) {
      if (sum > 0) {
        atomicAdd(&sums[current], sum);
      }
      current = segment;
      sum = 0;
    }
    sum += probability_units(expf(chosen - largest) / total);
  }
  if (sum > 0) {
    atomicAdd(&sums[current], sum);
  }
}

PanopticResult panoptic_from_logits_cuda(
    const at::Tensor& semantic_logits, const at::Tensor& center_offsets, const at::Tensor& centers,
    const at::Tensor& center_scores, const at::Tensor& num_centers,
    at::IntArrayRef channel_to_class, at::IntArrayRef thing_ids, at::IntArrayRef size,
    at::ArrayRef<double> scale, at::ArrayRef<double> offset_scale, int64_t label_divisor,
    int64_t stuff_area_limit, bool with_probability) {
  check_panoptic_from_logits(semantic_logits, center_offsets, centers, center_scores, num_centers,
                             channel_to_class, size, scale, offset_scale);
  const int64_t num_classes = check_channel_classes(channel_to_class);
  check_label_divisor("panoptic_from_logits", label_divisor, num_classes);
  const ThingFlags flags = thing_flags("panoptic_from_logits", thing_ids, num_classes);
  const ChannelClasses classes = channel_classes("panoptic_from_logits", channel_to_class);
  const int64_t num_images = semantic_logits.size(0), num_rows = centers.size(1);
  constexpr int64_t kTooMany = int64_t(1) << 31;
  TORCH_CHECK(num_images < 65536, "panoptic_from_logits: at most 65535 images, got ", num_images);
  TORCH_CHECK(semantic_logits.size(2) < kTooMany && semantic_logits.size(3) < kTooMany &&
                  num_rows < kTooMany / 2,
              "panoptic_from_logits: on a GPU maps must be less than 2**31 high and wide, and "
              "centers fewer than 2**30, got ",
              semantic_logits.sizes(), " and ", num_rows);
  const c10::cuda::CUDAGuard guard(semantic_logits.device());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const at::Tensor logits = semantic_logits.to(at::kFloat).contiguous();
  const at::Tensor offsets = center_offsets.to(at::kFloat).contiguous();
  const at::Tensor scores = center_scores.to(at::kFloat).contiguous();
  const at::Tensor points = centers.contiguous(), counts = num_centers.contiguous();
  const Frame frame{static_cast<int32_t>(logits.size(1)),
                    static_cast<int32_t>(logits.size(2)),
                    static_cast<int32_t>(logits.size(3)),
                    static_cast<int32_t>(size[0]),
                    static_cast<int32_t>(size[1]),
                    static_cast<float>(scale[0]),
                    static_cast<float>(scale[1]),
                    static_cast<float>(offset_scale[0]),
                    static_cast<float>(offset_scale[1]),
                    is_identity(logits.size(2), logits.size(3), size.data(), scale.data())};

  const int64_t area = size[0] * size[1];
  at::Tensor semantic = at::empty({num_images, size[0], size[1]}, logits.options().dtype(at::kInt));
  at::Tensor instance = at::empty({num_images, size[0], size[1]}, semantic.options());
  if (num_images > 0) {
    const dim3 tiles(count_tiles(size[0], size[1]), num_images);
    predict_kernel<<<tiles, kTileThreads, 0, stream>>>(
        frame, classes, flags, logits.const_data_ptr<float>(), offsets.const_data_ptr<float>(),
        points.const_data_ptr<float>(), counts.const_data_ptr<int32_t>(), num_rows,
        semantic.mutable_data_ptr<int32_t>(), instance.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  const auto [panoptic, label, category, pixels, box, objectness] = merge_on_device(
      semantic, instance, scores, num_classes, flags, label_divisor, stuff_area_limit);
  at::Tensor probability = at::full_like(objectness, std::numeric_limits<double>::quiet_NaN());
  if (with_probability && num_images > 0) {
    at::Tensor sums = at::zeros(pixels.sizes(), pixels.options().dtype(at::kLong));
    const int64_t parts = (area + kPixelsPerThread - 1) / kPixelsPerThread;
    probability_kernel<<<dim3((parts + kThreads - 1) / kThreads, num_images), kThreads, 0,
                         stream>>>(
        frame, classes, flags, logits.const_data_ptr<float>(), semantic.const_data_ptr<int32_t>(),
        instance.const_data_ptr<int32_t>(), category.const_data_ptr<int32_t>(), num_classes,
        num_rows, reinterpret_cast<unsigned long long*>(sums.mutable_data_ptr<int64_t>()));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    probability =
        (sums.to(at::kDouble) / (pixels.to(at::kDouble) * kProbabilityScale)).to(at::kFloat);
  }
  probability = at::where(pixels > 0, probability, at::zeros_like(probability));
  return {panoptic, semantic, instance, label, category, pixels, box, objectness, probability};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) {
  m.impl("panoptic_from_logits", &panoptic_from_logits_cuda);
}

}  // namespace deeplab2_d2
