#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <numeric>
#include <tuple>

#include "segments.h"

namespace deeplab2_d2 {
namespace {

// 1, 2, ... within each class, in the order of the first pixels.
std::vector<int64_t> number_instances(const SegmentCounts& counts,
                                      const std::vector<int64_t>& majority,
                                      const std::vector<int64_t>& area) {
  std::vector<int64_t> order(majority.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int64_t a, int64_t b) { return counts.first_pixel[a] < counts.first_pixel[b]; });
  std::vector<int64_t> number(majority.size()), last_number(counts.num_classes, 0);
  for (const int64_t k : order) {
    if (area[k] > 0) {
      number[k] = ++last_number[majority[k]];
    }
  }
  return number;
}

}  // namespace

void write_rows(const SegmentCounts& counts, const std::vector<uint8_t>& is_thing,
                const float* center_scores, int64_t label_divisor, int64_t stuff_area_limit,
                const SegmentRows& rows) {
  const int64_t num_centers = counts.num_centers, num_classes = counts.num_classes;
  std::vector<int64_t> majority(num_centers), area(num_centers);
  for (int64_t k = 0; k < num_centers; ++k) {
    const auto votes = counts.votes.begin() + k * num_classes;
    majority[k] = std::max_element(votes, votes + num_classes) - votes;  // the first of equal ones
    area[k] = std::accumulate(votes, votes + num_classes, int64_t(0));
  }
  const std::vector<int64_t> number = number_instances(counts, majority, area);

  const auto write = [&](int64_t row, int64_t pixels, int64_t category, int64_t label,
                         float score) {
    const bool is_absent = pixels == 0;
    const Box& box = counts.boxes[row];
    rows.panoptic_label[row] = is_absent ? kVoid : static_cast<int32_t>(label);
    rows.category[row] = is_absent ? kVoid : static_cast<int32_t>(category);
    rows.area[row] = static_cast<int32_t>(pixels);
    rows.box[4 * row] = is_absent ? 0 : box.min_y;
    rows.box[4 * row + 1] = is_absent ? 0 : box.min_x;
    rows.box[4 * row + 2] = is_absent ? 0 : box.max_y + 1;
    rows.box[4 * row + 3] = is_absent ? 0 : box.max_x + 1;
    rows.objectness[row] = is_absent ? 0.0f : score;
  };
  for (int64_t k = 0; k < num_centers; ++k) {
    const int64_t label = majority[k] * label_divisor + number[k];
    write(k, area[k], majority[k], label, center_scores[k]);
  }
  for (int64_t c = 0; c < num_classes; ++c) {
    int64_t pixels = is_thing[c] ? 0 : counts.votes[num_centers * num_classes + c];
    pixels = pixels < stuff_area_limit ? 0 : pixels;
    write(num_centers + c, pixels, c, c * label_divisor, 1.0f);
  }
}

void label_row(const int32_t* semantic, const int32_t* instance, int64_t width,
               const std::vector<uint8_t>& is_thing, const int32_t* panoptic_label,
               int64_t num_centers, int32_t* panoptic) {
  int32_t label = kVoid;
  for (int64_t x = 0; x < width; ++x) {
    if (x > 0 && semantic[x] == semantic[x - 1] && instance[x] == instance[x - 1]) {
      panoptic[x] = label;
      continue;
    }
    const int32_t class_id = semantic[x];
    label = kVoid;
    if (class_id >= 0) {
      if (!is_thing[class_id]) {
        label = panoptic_label[num_centers + class_id];
      } else if (instance[x] > 0) {
        label = panoptic_label[instance[x] - 1];
      }
    }
    panoptic[x] = label;
  }
}

namespace {

using MergeResult =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Contiguous int32 of labels that are in the range, whatever their type.
at::Tensor narrow_labels(const char* name, const at::Tensor& labels, int64_t lowest,
                         int64_t highest) {
  const auto check = [&](const auto* values) {
    // Not std::minmax_element, which compilers do not vectorize.
    auto smallest = values[0], largest = values[0];
    for (int64_t i = 1; i < labels.numel(); ++i) {
      smallest = std::min(smallest, values[i]);
      largest = std::max(largest, values[i]);
    }
    TORCH_CHECK(smallest >= lowest && largest <= highest, "merge_panoptic: ", name, " must be in [",
                lowest, ", ", highest, "], got ", smallest < lowest ? smallest : largest);
  };
  const bool is_wide = labels.element_size() > 2 && labels.scalar_type() != at::kInt;
  const at::Tensor values = labels.to(is_wide ? at::kLong : at::kInt).contiguous();
  if (labels.numel() > 0 && is_wide) {
    check(values.const_data_ptr<int64_t>());
  } else if (labels.numel() > 0) {
    check(values.const_data_ptr<int32_t>());
  }
  return values.to(at::kInt);
}

// Runs of pixels of one class and one center.
void count_row(const int32_t* semantic, const int32_t* instance,
               const std::vector<uint8_t>& is_thing, int64_t y, int64_t width,
               SegmentCounts& counts) {
  for (int64_t first = 0; first < width;) {
    int64_t last = first + 1;
    while (last < width && semantic[last] == semantic[first] && instance[last] == instance[first]) {
      ++last;
    }
    const int32_t class_id = semantic[first];
    if (class_id >= 0) {
      const int32_t center = is_thing[class_id] ? instance[first] : 0;
      if (!is_thing[class_id] || center > 0) {
        counts.add_run(center, class_id, y, first, last, width, 0);
      }
    }
    first = last;
  }
}

MergeResult merge_panoptic_cpu(const at::Tensor& semantic, const at::Tensor& instance,
                               const at::Tensor& center_scores, int64_t num_classes,
                               at::IntArrayRef thing_ids, int64_t label_divisor,
                               int64_t stuff_area_limit) {
  check_merge_panoptic(semantic, instance, center_scores);
  check_label_divisor("merge_panoptic", label_divisor, num_classes);
  const std::vector<uint8_t> is_thing = class_flags("merge_panoptic", thing_ids, num_classes);

  const int64_t num_images = semantic.size(0), height = semantic.size(1), width = semantic.size(2);
  const int64_t num_centers = center_scores.size(1), num_segments = num_centers + num_classes;
  const at::Tensor classes = narrow_labels("semantic", semantic, -1, num_classes - 1);
  const at::Tensor centers = narrow_labels("instance", instance, 0, num_centers);
  const at::Tensor scores = center_scores.to(at::kFloat).contiguous();

  at::Tensor panoptic = at::empty(semantic.sizes(), classes.options());
  at::Tensor label = at::empty({num_images, num_segments}, classes.options());
  at::Tensor category = at::empty_like(label);
  at::Tensor area = at::empty_like(label);
  at::Tensor box = at::empty({num_images, num_segments, 4}, classes.options());
  at::Tensor objectness = at::empty({num_images, num_segments}, scores.options());
  for (int64_t image = 0; image < num_images; ++image) {
    const int32_t* class_map = classes.const_data_ptr<int32_t>() + image * height * width;
    const int32_t* center_map = centers.const_data_ptr<int32_t>() + image * height * width;
    std::vector<SegmentCounts> counts(at::get_num_threads(),
                                      SegmentCounts(num_centers, num_classes));
    at::parallel_for(0, height, 16, [&](int64_t begin, int64_t end) {
      SegmentCounts& own = counts[at::get_thread_num()];
      for (int64_t y = begin; y < end; ++y) {
        count_row(class_map + y * width, center_map + y * width, is_thing, y, width, own);
      }
    });
    for (size_t thread = 1; thread < counts.size(); ++thread) {
      counts[0].add(counts[thread]);
    }
    const SegmentRows rows{label.mutable_data_ptr<int32_t>() + image * num_segments,
                           category.mutable_data_ptr<int32_t>() + image * num_segments,
                           area.mutable_data_ptr<int32_t>() + image * num_segments,
                           box.mutable_data_ptr<int32_t>() + image * num_segments * 4,
                           objectness.mutable_data_ptr<float>() + image * num_segments};
    write_rows(counts[0], is_thing, scores.const_data_ptr<float>() + image * num_centers,
               label_divisor, stuff_area_limit, rows);
    int32_t* out = panoptic.mutable_data_ptr<int32_t>() + image * height * width;
    at::parallel_for(0, height, 16, [&](int64_t begin, int64_t end) {
      for (int64_t y = begin; y < end; ++y) {
        label_row(class_map + y * width, center_map + y * width, width, is_thing,
                  rows.panoptic_label, num_centers, out + y * width);
      }
    });
  }
  return {panoptic, label, category, area, box, objectness};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("merge_panoptic", &merge_panoptic_cpu); }

}  // namespace deeplab2_d2
