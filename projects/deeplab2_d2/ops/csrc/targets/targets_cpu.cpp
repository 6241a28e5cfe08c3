#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "../ordering.h"
#include "targets.h"

namespace deeplab2_d2 {
namespace {

using TargetsResult =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Area and sums of coordinates of each segment; index 0 is the unlabeled pixels.
struct SegmentSums {
  explicit SegmentSums(int64_t num_labels) : area(num_labels), y(num_labels), x(num_labels) {}

  void add_run(int32_t label, int64_t row, int64_t first, int64_t last) {
    const int64_t count = last - first;
    area[label] += count;
    y[label] += row * count;
    x[label] += (first + last - 1) * count / 2;
  }

  void add(const SegmentSums& other) {
    for (size_t i = 0; i < area.size(); ++i) {
      area[i] += other.area[i];
      y[i] += other.y[i];
      x[i] += other.x[i];
    }
  }

  std::vector<int64_t> area, y, x;
};

// Calls `visit(label, first, last)` for each run of one label in a row.
template <typename Visit>
void for_each_run(const int32_t* labels, int64_t width, const Visit& visit) {
  for (int64_t first = 0; first < width;) {
    int64_t last = first + 1;
    while (last < width && labels[last] == labels[first]) {
      ++last;
    }
    visit(labels[first], first, last);
    first = last;
  }
}

SegmentSums sum_segments(const int32_t* segment_map, int64_t height, int64_t width,
                         int64_t num_labels) {
  std::vector<SegmentSums> sums(at::get_num_threads(), SegmentSums(num_labels));
  at::parallel_for(0, height, 32, [&](int64_t begin, int64_t end) {
    SegmentSums& own = sums[at::get_thread_num()];
    for (int64_t y = begin; y < end; ++y) {
      for_each_run(segment_map + y * width, width, [&](int32_t label, int64_t first, int64_t last) {
        TORCH_CHECK(0 <= label && label < num_labels,
                    "panoptic_targets: segment_map must be in [0, ", num_labels - 1, "], got ",
                    label);
        own.add_run(label, y, first, last);
      });
    }
  });
  for (size_t thread = 1; thread < sums.size(); ++thread) {
    sums[0].add(sums[thread]);
  }
  return sums[0];
}

// What a segment's pixels get; index 0 is the unlabeled pixels.
struct LabelTargets {
  int64_t semantic;
  float semantic_weight;
  float center_weight;
  bool is_instance;
  int64_t center_y, center_x;  // rounded half to even; only of instances
  int64_t area;
};

std::vector<LabelTargets> look_up_targets(const SegmentSums& sums, const at::Tensor& semantic,
                                          const at::Tensor& is_instance, const at::Tensor& is_crowd,
                                          int64_t ignore_label, int64_t small_instance_area,
                                          double small_instance_weight) {
  std::vector<LabelTargets> targets{{ignore_label, 1.0f, 0.0f, false, 0, 0, sums.area[0]}};
  for (int64_t s = 0; s < semantic.size(0); ++s) {
    const int64_t area = sums.area[s + 1];
    const double divisor = static_cast<double>(std::max<int64_t>(area, 1));
    const bool has_instance = is_instance.const_data_ptr<bool>()[s];
    const bool is_small = has_instance && area < small_instance_area;
    targets.push_back(
        {semantic.const_data_ptr<int64_t>()[s],
         is_small ? static_cast<float>(small_instance_weight) : 1.0f,
         is_crowd.const_data_ptr<bool>()[s] ? 0.0f : 1.0f, has_instance,
         static_cast<int64_t>(std::nearbyint(static_cast<double>(sums.y[s + 1]) / divisor)),
         static_cast<int64_t>(std::nearbyint(static_cast<double>(sums.x[s + 1]) / divisor)), area});
  }
  return targets;
}

// The larger of the heatmap and the Gaussian of a center, over the Gaussian's window.
void draw_center(const LabelTargets& target, const at::Tensor& window, int64_t window_before,
                 int64_t height, int64_t width, float* heatmap) {
  const int64_t top = target.center_y - window_before, left = target.center_x - window_before;
  const int64_t bottom = std::min(top + window.size(0), height);
  const int64_t right = std::min(left + window.size(1), width);
  for (int64_t y = std::max<int64_t>(top, 0); y < bottom; ++y) {
    const float* source = window.const_data_ptr<float>() + (y - top) * window.size(1);
    for (int64_t x = std::max<int64_t>(left, 0); x < right; ++x) {
      float& largest = heatmap[y * width + x];
      largest = is_new_largest(source[x - left], largest) ? source[x - left] : largest;
    }
  }
}

// Pointers to (H, W) outputs.
struct Outputs {
  int64_t* semantic;
  float* semantic_weight;
  float* center_weight;
  float* offset_y;
  float* offset_x;
  float* offset_weight;

  void write_run(const LabelTargets& target, int64_t y, int64_t begin, int64_t end, int64_t x) {
    const int64_t count = end - begin;
    std::fill_n(semantic + begin, count, target.semantic);
    std::fill_n(semantic_weight + begin, count, target.semantic_weight);
    std::fill_n(center_weight + begin, count, target.center_weight);
    std::fill_n(offset_weight + begin, count, target.is_instance ? 1.0f : 0.0f);
    const float dy = static_cast<float>(target.center_y) - static_cast<float>(y);
    std::fill_n(offset_y + begin, count, target.is_instance ? dy : 0.0f);
    const int32_t dx = static_cast<int32_t>(target.center_x - x);
    for (int64_t i = 0; i < count; ++i) {
      offset_x[begin + i] =
          target.is_instance ? static_cast<float>(dx - static_cast<int32_t>(i)) : 0.0f;
    }
  }
};

TargetsResult panoptic_targets_cpu(const at::Tensor& segment_map, const at::Tensor& semantic,
                                   const at::Tensor& is_instance, const at::Tensor& is_crowd,
                                   const at::Tensor& window, int64_t window_before,
                                   int64_t ignore_label, int64_t small_instance_area,
                                   double small_instance_weight) {
  check_panoptic_targets(segment_map, semantic, is_instance, is_crowd, window, window_before);
  const at::Tensor labels = segment_map.contiguous();
  const at::Tensor patch = window.contiguous();
  const int32_t* label_map = labels.const_data_ptr<int32_t>();
  const int64_t height = labels.size(0), width = labels.size(1);
  const SegmentSums sums = sum_segments(label_map, height, width, semantic.size(0) + 1);
  const std::vector<LabelTargets> targets =
      look_up_targets(sums, semantic.contiguous(), is_instance.contiguous(), is_crowd.contiguous(),
                      ignore_label, small_instance_area, small_instance_weight);

  const auto floats = labels.options().dtype(at::kFloat);
  at::Tensor semantic_map = at::empty({height, width}, labels.options().dtype(at::kLong));
  at::Tensor semantic_weights = at::empty({height, width}, floats);
  at::Tensor heatmap = at::zeros({height, width}, floats);
  at::Tensor center_weights = at::empty({height, width}, floats);
  at::Tensor offsets = at::empty({2, height, width}, floats);
  at::Tensor offset_weights = at::empty({height, width}, floats);
  for (const LabelTargets& target : targets) {
    if (target.is_instance && target.area > 0) {
      draw_center(target, patch, window_before, height, width, heatmap.mutable_data_ptr<float>());
    }
  }
  Outputs outputs{semantic_map.mutable_data_ptr<int64_t>(),
                  semantic_weights.mutable_data_ptr<float>(),
                  center_weights.mutable_data_ptr<float>(),
                  offsets.mutable_data_ptr<float>(),
                  offsets.mutable_data_ptr<float>() + height * width,
                  offset_weights.mutable_data_ptr<float>()};
  at::parallel_for(0, height, 32, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      for_each_run(label_map + y * width, width, [&](int32_t label, int64_t first, int64_t last) {
        outputs.write_run(targets[label], y, y * width + first, y * width + last, first);
      });
    }
  });
  return {semantic_map, semantic_weights, heatmap, center_weights, offsets, offset_weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("panoptic_targets", &panoptic_targets_cpu); }

}  // namespace deeplab2_d2
