// The merge on the GPU, for the operators that end with it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <tuple>

namespace deeplab2_d2 {

// Which classes are things; passed to kernels by value, so that nothing is copied to the GPU.
struct ThingFlags {
  static constexpr int64_t kMaxClasses = 1024;

  uint32_t bits[kMaxClasses / 32];
};

inline ThingFlags thing_flags(const char* name, at::IntArrayRef thing_ids, int64_t num_classes) {
  TORCH_CHECK(num_classes <= ThingFlags::kMaxClasses, name, ": on a GPU at most ",
              ThingFlags::kMaxClasses, " classes, got ", num_classes);
  ThingFlags flags{};
  for (const int64_t id : thing_ids) {
    TORCH_CHECK(0 <= id && id < num_classes, name, ": thing_ids must be in [0, ", num_classes,
                "), got ", id);
    flags.bits[id / 32] |= uint32_t(1) << (id % 32);
  }
  return flags;
}

// The class of each channel; passed to kernels by value.
struct ChannelClasses {
  static constexpr int64_t kMaxChannels = 1024;

  int16_t class_id[kMaxChannels];
};

// channel_to_class: less than ThingFlags::kMaxClasses.
inline ChannelClasses channel_classes(const char* name, at::IntArrayRef channel_to_class) {
  TORCH_CHECK(static_cast<int64_t>(channel_to_class.size()) <= ChannelClasses::kMaxChannels, name,
              ": on a GPU at most ", ChannelClasses::kMaxChannels, " channels, got ",
              channel_to_class.size());
  ChannelClasses classes{};
  for (size_t c = 0; c < channel_to_class.size(); ++c) {
    classes.class_id[c] = static_cast<int16_t>(channel_to_class[c]);
  }
  return classes;
}

// Labels, and the columns of the segment table but the probability.
//
// semantic, instance: (N, H, W) int32, contiguous; values out of range are void.
// center_scores: (N, K) float32, contiguous.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> merge_on_device(
    const at::Tensor& semantic, const at::Tensor& instance, const at::Tensor& center_scores,
    int64_t num_classes, const ThingFlags& flags, int64_t label_divisor, int64_t stuff_area_limit);

}  // namespace deeplab2_d2
