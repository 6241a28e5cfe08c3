// What is known of the segments of one image: counted by several threads, then joined.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "../exponential.h"

namespace deeplab2_d2 {

constexpr int32_t kVoid = -1;

// Probabilities are summed as integers of this unit.
constexpr float kProbabilityScale = 16777216.0f;  // 2**24

// A probability as the integer that is summed; 0 for NaN.
DEEPLAB2_D2_EVERYWHERE inline int32_t probability_units(float probability) {
  const float known = probability >= 0.0f ? probability : 0.0f;
  const float limited = known < 1.0f ? known : 1.0f;
  return static_cast<int32_t>(limited * kProbabilityScale + 0.5f);
}

inline std::vector<uint8_t> class_flags(const char* name, at::IntArrayRef class_ids,
                                        int64_t num_classes) {
  std::vector<uint8_t> flags(num_classes, 0);
  for (const int64_t id : class_ids) {
    TORCH_CHECK(0 <= id && id < num_classes, name, ": thing_ids must be in [0, ", num_classes,
                "), got ", id);
    flags[id] = 1;
  }
  return flags;
}

inline void check_label_divisor(const char* name, int64_t label_divisor, int64_t num_classes) {
  TORCH_CHECK(
      num_classes >= 1 && label_divisor >= 2 && label_divisor <= (int64_t(1) << 31) / num_classes,
      name,
      ": label_divisor must be at least 2 and num_classes * label_divisor at most 2**31, got ",
      label_divisor, " for ", num_classes, " classes");
}

inline void check_merge_panoptic(const at::Tensor& semantic, const at::Tensor& instance,
                                 const at::Tensor& center_scores) {
  TORCH_CHECK(semantic.dim() == 3, "merge_panoptic: semantic must be (N, H, W), got ",
              semantic.sizes());
  TORCH_CHECK(instance.sizes() == semantic.sizes(), "merge_panoptic: instance must be ",
              semantic.sizes(), ", got ", instance.sizes());
  TORCH_CHECK(center_scores.dim() == 2 && center_scores.size(0) == semantic.size(0),
              "merge_panoptic: center_scores must be (", semantic.size(0), ", K), got ",
              center_scores.sizes());
  TORCH_CHECK(at::isIntegralType(semantic.scalar_type(), false) &&
                  at::isIntegralType(instance.scalar_type(), false),
              "merge_panoptic: semantic and instance must be integers, got ", semantic.dtype(),
              " and ", instance.dtype());
  TORCH_CHECK(instance.device() == semantic.device() && center_scores.device() == semantic.device(),
              "merge_panoptic: all tensors must be on ", semantic.device());
}

// Smallest rectangle around the pixels of a segment; the maxima are inclusive.
struct Box {
  int32_t min_y = std::numeric_limits<int32_t>::max();
  int32_t min_x = std::numeric_limits<int32_t>::max();
  int32_t max_y = -1;
  int32_t max_x = -1;

  void include(const Box& other) {
    min_y = std::min(min_y, other.min_y);
    min_x = std::min(min_x, other.min_x);
    max_y = std::max(max_y, other.max_y);
    max_x = std::max(max_x, other.max_x);
  }
};

// Counts of the K + C segments that an image may have: row k is center k, row K + c stuff class c.
// All are integers, so that they do not depend on how the pixels are divided among threads.
struct SegmentCounts {
  SegmentCounts(int64_t num_centers, int64_t num_classes)
      : num_centers(num_centers),
        num_classes(num_classes),
        votes((num_centers + 1) * num_classes),
        probability((num_centers + 1) * num_classes),
        first_pixel(num_centers, std::numeric_limits<int64_t>::max()),
        boxes(num_centers + num_classes) {}

  // Adds pixels (y, first .. last - 1), all of one class and one center or (0) none.
  void add_run(int32_t instance, int32_t semantic, int64_t y, int64_t first, int64_t last,
               int64_t width, int64_t probability_sum) {
    const int64_t table_row = instance > 0 ? instance - 1 : num_centers;
    votes[table_row * num_classes + semantic] += last - first;
    probability[table_row * num_classes + semantic] += probability_sum;
    if (instance > 0) {
      first_pixel[instance - 1] = std::min(first_pixel[instance - 1], y * width + first);
    }
    Box run;
    run.min_y = run.max_y = static_cast<int32_t>(y);
    run.min_x = static_cast<int32_t>(first);
    run.max_x = static_cast<int32_t>(last - 1);
    boxes[instance > 0 ? instance - 1 : num_centers + semantic].include(run);
  }

  void add(const SegmentCounts& other) {
    for (size_t i = 0; i < votes.size(); ++i) {
      votes[i] += other.votes[i];
      probability[i] += other.probability[i];
    }
    for (size_t k = 0; k < first_pixel.size(); ++k) {
      first_pixel[k] = std::min(first_pixel[k], other.first_pixel[k]);
    }
    for (size_t s = 0; s < boxes.size(); ++s) {
      boxes[s].include(other.boxes[s]);
    }
  }

  int64_t num_centers, num_classes;
  // (K + 1, C): pixels, and sums of probabilities, by center and class; the last row is stuff.
  std::vector<int64_t> votes, probability;
  std::vector<int64_t> first_pixel;  // (K), in raster order
  std::vector<Box> boxes;            // (K + C)
};

// The rows of the segment table of one image, as the operators return them.
struct SegmentRows {
  int32_t* panoptic_label;  // (K + C)
  int32_t* category;        // (K + C)
  int32_t* area;            // (K + C)
  int32_t* box;             // (K + C, 4)
  float* objectness;        // (K + C)
};

// Decides classes, numbers and labels.
//
// center_scores: (K) float; is_thing: (C). Every field of `rows` is written.
void write_rows(const SegmentCounts& counts, const std::vector<uint8_t>& is_thing,
                const float* center_scores, int64_t label_divisor, int64_t stuff_area_limit,
                const SegmentRows& rows);

// panoptic[i] from the labels of the segments; semantic -1 is void, as is a thing without center.
void label_row(const int32_t* semantic, const int32_t* instance, int64_t width,
               const std::vector<uint8_t>& is_thing, const int32_t* panoptic_label,
               int64_t num_centers, int32_t* panoptic);

}  // namespace deeplab2_d2
