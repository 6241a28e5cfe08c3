// The kernels over pixels: candidates of each pixel, and its labels.
#pragma once

#include <cstdint>

#include "slot_segments_device.cuh"
#include "slots_device.cuh"

namespace deeplab2_d2 {
namespace {

constexpr int kSlotThreads = kSlotWarps * kWarp;
// Blocks of tiles on a multiprocessor: what 64 registers a thread allow, or, with more columns, 80.
constexpr int tile_blocks_at_once(int num_columns) { return num_columns > 2 ? 12 : 16; }

// Strips of kStripHeight rows and a warp's width.
constexpr int kStripThreads = 128;
constexpr int kStripHeight = 4;

// What the tiles' kernels read of all images.
template <typename value_t>
struct SlotLogits {
  const value_t* masks;     // (N, S, h, w)
  int64_t map_size;         // S * h * w
  const int32_t* category;  // (N, S)
  const float* confidence;  // (N, S)
};

// (N, H, W) each.
struct SlotImages {
  int32_t *panoptic, *semantic, *slot;
  float* confidence;
};

__device__ __forceinline__ int64_t warp_index() {
  return (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) / kWarp;
}

__device__ __forceinline__ int32_t pack_slots(int32_t first, int32_t second) {
  return static_cast<int32_t>(static_cast<uint32_t>(first) | static_cast<uint32_t>(second) << 16);
}

__device__ __forceinline__ int32_t first_of(int32_t code) { return code & kNoSlot; }

__device__ __forceinline__ int32_t second_of(int32_t code) {
  return static_cast<int32_t>(static_cast<uint32_t>(code) >> 16);
}

// The slots, packed, that pixel k may belong to; -1 if none.
template <int kPixels>
__device__ __forceinline__ int32_t candidates(const SlotLimits& limits,
                                              const PixelSlots<kPixels>& found, int k) {
  const bool is_first =
      found.listed[k] >= 0 && found.is_same[k] && 1.0f / found.total[k] > limits.mask_threshold;
  const bool is_second = limits.is_mask_wise && found.second_slot[k] >= 0 &&
                         found.second[k] / found.total[k] > limits.mask_threshold;
  return pack_slots(is_first ? found.listed[k] : kNoSlot,
                    is_second ? found.second_slot[k] : kNoSlot);
}

// Adds up, for each slot, the probabilities above the mask threshold in the map itself, of which
// `frame` is the part that the output covers. A thread a pixel.
template <typename value_t>
__global__ void __launch_bounds__(kSlotThreads, tile_blocks_at_once(1))
    score_kernel(SlotFrame frame, const __grid_constant__ SlotLimits limits,
                 const __grid_constant__ ThingFlags flags, SlotLogits<value_t> logits,
                 SlotWorkspace work) {
  __shared__ SlotList list;
  const int64_t first_slot = blockIdx.y * static_cast<int64_t>(frame.num_slots);
  list_slots(frame.num_slots, limits, flags, logits.category + first_slot,
             logits.confidence + first_slot, list);
  const TilePixels<1, 1> pixels(frame, warp_index());
  const PixelSlots<1> found =
      compare_slots(frame, pixels, logits.masks + blockIdx.y * logits.map_size, list);
  const int32_t code = pixels.is_inside(frame, 0) ? candidates(limits, found, 0) : -1;
  const float probabilities[2] = {1.0f / found.total[0], found.second[0] / found.total[0]};
  const int32_t slots[2] = {first_of(code), second_of(code)};
  for (int i = 0; i < 2; ++i) {
    const int32_t values[1] = {slots[i] == kNoSlot ? -1 : slots[i]};
    for_each_value(values, [&](int32_t s, const unsigned (&lanes)[1]) {
      const unsigned unit = values[0] == s ? probability_units(probabilities[i]) : 0;
      const unsigned sum = sum_of_warp(unit);
      if (lane_of_thread() == 0) {
        atomicAdd(&work.mask_unit[first_slot + s], static_cast<unsigned long long>(sum));
        atomicAdd(&work.mask_count[first_slot + s], __popc(lanes[0]));
      }
    });
  }
}

__device__ __forceinline__ void count_pixels(const SlotWorkspace& work, int32_t num_slots,
                                             int64_t first_slot, int32_t code, int32_t number) {
  const int32_t first = first_of(code), second = second_of(code);
  atomicAdd(&work.area[first_slot + first], number);
  if (second != kNoSlot) {
    atomicAdd(&work.area[first_slot + second], number);
    atomicAdd(&work.pair[(first_slot + first) * num_slots + second], number);
    atomicAdd(&work.pair[(first_slot + second) * num_slots + first], number);
  }
}

// Classes, confidences and, pixel-wise, slots; the slots that a pixel may belong to as its
// panoptic label, and how many pixels there are of each.
template <typename value_t, int kPixels, int kColumns>
__global__ void __launch_bounds__(kSlotThreads, tile_blocks_at_once(kColumns))
    predict_kernel(SlotFrame frame, const __grid_constant__ SlotLimits limits,
                   const __grid_constant__ ThingFlags flags, SlotLogits<value_t> logits,
                   SlotWorkspace work, SlotImages images) {
  __shared__ SlotList list;
  const int64_t image = blockIdx.y, first_slot = image * frame.num_slots;
  list_slots(frame.num_slots, limits, flags, logits.category + first_slot,
             logits.confidence + first_slot, list);
  const TilePixels<kPixels, kColumns> pixels(frame, warp_index());
  const PixelSlots<kPixels> found =
      compare_slots(frame, pixels, logits.masks + image * logits.map_size, list);
  int32_t codes[kPixels];
  const int64_t index = (image * frame.height + pixels.y) * frame.width + pixels.x;
  for (int k = 0; k < kPixels; ++k) {
    codes[k] = -1;
    if (pixels.is_inside(frame, k)) {
      codes[k] = candidates(limits, found, k);
      images.panoptic[index + k] = codes[k];
      images.semantic[index + k] = logits.category[first_slot + found.slot[k]];
      images.confidence[index + k] = list.has_any ? 1.0f / found.total[k] : 0.0f;
      if (!limits.is_mask_wise) {
        images.slot[index + k] = found.listed[k];
      }
    }
  }
  for_each_value(codes, [&](int32_t code, const unsigned (&lanes)[kPixels]) {
    int32_t number = 0;
    for (int k = 0; k < kPixels; ++k) {
      number += __popc(lanes[k]);
    }
    if (lane_of_thread() == 0) {
      count_pixels(work, frame.num_slots, first_slot, code, number);
    }
  });
}

// The slot of a pixel that may belong to the slots in `code`; -1 for none.
__device__ __forceinline__ int32_t winning_slot(const int32_t* priority, int32_t code) {
  const int32_t first = first_of(code), second = second_of(code);
  const int32_t of_first = first == kNoSlot ? kNever : priority[first];
  const int32_t of_second = second == kNoSlot ? kNever : priority[second];
  if (of_first == kNever && of_second == kNever) {
    return -1;
  }
  return of_second < of_first ? second : first;
}

// Replaces the packed slots by labels. A warp a strip of kStripHeight rows.
__global__ void __launch_bounds__(kStripThreads)
    label_kernel(int32_t height, int32_t width, int32_t num_slots, int32_t num_rows,
                 bool is_mask_wise, SlotWorkspace work, SlotColumns columns, SlotImages images) {
  const int64_t image = blockIdx.y, strips_in_row = (int64_t(width) + kWarp - 1) / kWarp;
  const int64_t first_y = warp_index() / strips_in_row * kStripHeight;
  const int64_t first_x = warp_index() % strips_in_row * kWarp;
  const int64_t x = first_x + lane_of_thread();
  int32_t rows[kStripHeight];
  unsigned units[kStripHeight];
  for (int k = 0; k < kStripHeight; ++k) {
    rows[k] = -1;
    units[k] = 0;
    if (x < width && first_y + k < height) {
      const int64_t pixel = (image * height + first_y + k) * width + x;
      const int32_t slot = winning_slot(work.priority + image * num_slots, images.panoptic[pixel]);
      rows[k] = slot < 0 ? -1 : work.row[image * num_slots + slot];
      units[k] = probability_units(images.confidence[pixel]);
      images.panoptic[pixel] = rows[k] < 0 ? kVoid : columns.label[image * num_rows + rows[k]];
      if (is_mask_wise) {
        images.slot[pixel] = slot;
      }
    }
  }
  for_each_value(rows, [&](int32_t row, const unsigned (&lanes)[kStripHeight]) {
    unsigned unit = 0, used = 0;
    int32_t first = kStripHeight, last = 0;
    for (int k = 0; k < kStripHeight; ++k) {
      unit += rows[k] == row ? units[k] : 0;
      used |= lanes[k];
      first = lanes[k] != 0 ? min(first, k) : first;
      last = lanes[k] != 0 ? k : last;
    }
    const unsigned sum = sum_of_warp(unit);
    if (lane_of_thread() == 0) {
      const int64_t index = image * num_rows + row;
      atomicAdd(&work.row_unit[index], static_cast<unsigned long long>(sum));
      lower_to(&columns.box[4 * index], static_cast<int32_t>(first_y) + first);
      lower_to(&columns.box[4 * index + 1], static_cast<int32_t>(first_x) + __ffs(used) - 1);
      raise_to(&columns.box[4 * index + 2], static_cast<int32_t>(first_y) + last);
      raise_to(&columns.box[4 * index + 3], static_cast<int32_t>(first_x) + 31 - __clz(used));
    }
  });
}

}  // namespace
}  // namespace deeplab2_d2
