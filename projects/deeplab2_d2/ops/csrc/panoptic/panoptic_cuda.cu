// Work division: one thread an output pixel upsamples all channels at its place (neighbours share
// the map's pixels in the cache) and takes the largest; the things of a block, a tile of the
// output, are compared with the centers that may be nearest to any of them (grouping_device.cuh);
// then the merge of merging_cuda.cu. With probabilities, the first kernel keeps that of the largest
// channel as an integer, and a last one adds up, in shared memory first, those of each segment;
// only where a segment has another class than the pixel is its softmax computed again. No (C, H, W)
// tensor, no waiting for the GPU.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
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
#include "../merging/block_tally.cuh"
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

// The largest logit of a pixel, its channel, and the sum of exponentials over it.
struct Winner {
  float largest, total;
  int32_t channel;

  // What exponentials are relative to; -infinity would make NaN of a channel that is left out.
  __device__ __forceinline__ float base() const {
    return fmaxf(largest, -std::numeric_limits<float>::max());
  }
  // Of a logit, as the integer that is summed; 0 if the logits have a NaN or infinity, or are all
  // -infinity.
  __device__ __forceinline__ int32_t units(float value) const {
    const bool is_known = total > 0.0f && largest < std::numeric_limits<float>::infinity();
    return is_known ? probability_units(expf(value - base()) / total) : 0;
  }
};

template <bool kWithTotal>
__device__ __forceinline__ Winner find_winner(const Frame& frame, const float* logits,
                                              const Position& y, const Position& x) {
  Winner winner{logit(frame, logits, 0, y, x), 0.0f, 0};
  if constexpr (kWithTotal) {
    winner.total = expf(winner.largest - winner.base());
  }
  for (int32_t c = 1; c < frame.num_channels; ++c) {
    const float value = logit(frame, logits, c, y, x);
    const bool is_larger = is_new_largest(value, winner.largest);
    if constexpr (kWithTotal) {
      const float difference = value - winner.base();
      const float term = expf(is_larger ? -difference : difference);
      winner.total = is_larger ? winner.total * term + 1.0f : winner.total + term;
    }
    winner.largest = is_larger ? value : winner.largest;
    winner.channel = is_larger ? c : winner.channel;
  }
  return winner;
}

// Output maps, (N, H, W).
struct PixelMaps {
  int32_t *semantic, *instance;
  int32_t* units;  // probability of the largest channel; only with probabilities
};

template <bool kWithProbability>
__global__ void predict_kernel(Frame frame, const __grid_constant__ ChannelClasses classes,
                               const __grid_constant__ ThingFlags flags, const float* all_logits,
                               const float* all_offsets, const float* centers,
                               const int32_t* num_centers, int32_t num_rows, PixelMaps maps) {
  __shared__ GroupingTile tile;
  const int64_t image = blockIdx.y;
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const TilePixel pixel = tile_pixel(frame.height, frame.width);
  const int64_t index = (image * frame.height + pixel.y) * frame.width + pixel.x;
  int32_t class_id = kVoid;
  float target_y = 0.0f, target_x = 0.0f;
  if (pixel.is_inside) {
    const Position y = position_of(pixel.y, frame.scale_y, frame.map_height);
    const Position x = position_of(pixel.x, frame.scale_x, frame.map_width);
    const float* logits = all_logits + image * frame.num_channels * map_area;
    const Winner winner = find_winner<kWithProbability>(frame, logits, y, x);
    class_id = classes.class_id[winner.channel];
    maps.semantic[index] = class_id;
    if constexpr (kWithProbability) {
      maps.units[index] = winner.units(winner.largest);
    }
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
    maps.instance[index] = center;
  }
}

// The probability of a class at a pixel that has another.
__device__ int32_t outvoted_units(const Frame& frame, const ChannelClasses& classes,
                                  const float* logits, int32_t class_id, int64_t pixel) {
  const Position y =
      position_of(static_cast<int32_t>(pixel / frame.width), frame.scale_y, frame.map_height);
  const Position x =
      position_of(static_cast<int32_t>(pixel % frame.width), frame.scale_x, frame.map_width);
  const Winner winner = find_winner<true>(frame, logits, y, x);
  int32_t channel = 0;
  while (channel + 1 < frame.num_channels && classes.class_id[channel] != class_id) {
    ++channel;
  }
  return winner.units(logit(frame, logits, channel, y, x));
}

// Sums of a block's segments in two halves of 16 bits and more: atomics of 32 bits are faster. A
// block's pixels have less than 2**27 of each.
struct BlockSums {
  TallyKeys rows;
  uint32_t low[kTallyPlaces], high[kTallyPlaces];
};

// sums: of the segments of an image.
__device__ __forceinline__ void add_units(BlockSums& block, int32_t row, uint32_t units,
                                          unsigned long long* sums) {
  const int32_t place = block.rows.find(static_cast<unsigned long long>(row));
  if (place >= 0) {
    atomicAdd(&block.low[place], units & 0xFFFFu);
    atomicAdd(&block.high[place], units >> 16);
  } else {
    atomicAdd(&sums[row], static_cast<unsigned long long>(units));
  }
}

__global__ void probability_kernel(Frame frame, const __grid_constant__ ChannelClasses classes,
                                   const __grid_constant__ ThingFlags flags,
                                   const float* all_logits, PixelMaps maps, const int32_t* category,
                                   int32_t num_classes, int32_t num_centers,
                                   unsigned long long* all_sums) {
  __shared__ BlockSums block;
  const int32_t place = static_cast<int32_t>(threadIdx.x);
  if (place < kTallyPlaces) {
    block.rows.clear(place);
    block.low[place] = block.high[place] = 0;
  }
  __syncthreads();
  const int64_t area = static_cast<int64_t>(frame.height) * frame.width;
  const int64_t image = blockIdx.y, first_segment = image * (num_centers + num_classes);
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  const float* logits = all_logits + image * frame.num_channels * map_area;
  unsigned long long* sums = all_sums + first_segment;
  const int64_t begin =
      (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * kPixelsPerThread;
  int32_t current = -1;
  uint32_t sum = 0;
  for (int64_t pixel = begin; pixel < min(begin + kPixelsPerThread, area); ++pixel) {
    const int64_t index = image * area + pixel;
    const int32_t class_id = maps.semantic[index];
    const int32_t row =
        segment_row(flags, class_id, maps.instance[index], num_classes, num_centers);
    const int32_t segment_class = row < 0 ? kVoid : category[first_segment + row];
    if (segment_class < 0) {
      continue;
    }
    if (row != current && sum > 0) {
      add_units(block, current, sum, sums);
      sum = 0;
    }
    current = row;
    sum += segment_class == class_id ? maps.units[index]
                                     : outvoted_units(frame, classes, logits, segment_class, pixel);
  }
  if (sum > 0) {
    add_units(block, current, sum, sums);
  }
  __syncthreads();
  if (place < kTallyPlaces && block.rows.keys[place] != kNoKey) {
    atomicAdd(&sums[block.rows.keys[place]],
              (static_cast<unsigned long long>(block.high[place]) << 16) + block.low[place]);
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
  at::Tensor units;
  PixelMaps maps{semantic.mutable_data_ptr<int32_t>(), instance.mutable_data_ptr<int32_t>(),
                 nullptr};
  if (with_probability) {
    units = at::empty_like(semantic);
    maps.units = units.mutable_data_ptr<int32_t>();
  }
  if (num_images > 0) {
    const dim3 tiles(count_tiles(size[0], size[1]), num_images);
    const auto predict = with_probability ? &predict_kernel<true> : &predict_kernel<false>;
    predict<<<tiles, kTileThreads, 0, stream>>>(
        frame, classes, flags, logits.const_data_ptr<float>(), offsets.const_data_ptr<float>(),
        points.const_data_ptr<float>(), counts.const_data_ptr<int32_t>(), num_rows, maps);
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
        frame, classes, flags, logits.const_data_ptr<float>(), maps,
        category.const_data_ptr<int32_t>(), num_classes, num_rows,
        reinterpret_cast<unsigned long long*>(sums.mutable_data_ptr<int64_t>()));
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
