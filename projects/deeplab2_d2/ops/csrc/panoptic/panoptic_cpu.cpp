#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../dispatch.h"
#include "../exponential.h"
#include "../ordering.h"
#include "../resampling/resampling.h"
#include "panoptic.h"

namespace deeplab2_d2 {
namespace {

// Pixels of a row whose logits of all channels are in the cache at a time.
constexpr int64_t kPixelsAtOnce = 256;

// values: `num_channels` rows of `count`, `stride` apart. Ties go to the first channel.
DEEPLAB2_D2_CLONES
void largest_channel(const float* values, int64_t stride, int64_t num_channels, int64_t count,
                     float* best, int32_t* channel) {
  for (int64_t x = 0; x < count; ++x) {
    best[x] = values[x];
    channel[x] = 0;
  }
  for (int64_t c = 1; c < num_channels; ++c) {
    const float* row = values + c * stride;
    for (int64_t x = 0; x < count; ++x) {
      const bool is_larger = is_new_largest(row[x], best[x]);
      channel[x] = is_larger ? static_cast<int32_t>(c) : channel[x];
      best[x] = is_larger ? row[x] : best[x];
    }
  }
}

// The denominator of the softmax, relative to the largest channel; NaN if a logit is NaN or
// infinite.
DEEPLAB2_D2_CLONES
void sum_exponentials(const float* values, int64_t stride, int64_t num_channels, int64_t count,
                      const float* best, float* total) {
  for (int64_t x = 0; x < count; ++x) {
    total[x] = 0.0f;
  }
  for (int64_t c = 0; c < num_channels; ++c) {
    const float* row = values + c * stride;
    for (int64_t x = 0; x < count; ++x) {
      total[x] += exp_nonpositive(row[x] - best[x]);
    }
  }
}

// What one call works on; shared by all threads.
struct Job {
  int64_t num_channels, map_height, map_width, height, width;
  AxisPositions<float> rows, columns;
  float offset_scale_y, offset_scale_x;
  std::vector<int32_t> channel_to_class;
  std::vector<uint8_t> is_thing;          // by class
  std::vector<uint8_t> channel_is_thing;  // by channel
  bool with_probability;

  // Whether the maps have the output's resolution already.
  bool is_identity() const { return rows.is_identity && columns.is_identity; }
};

// The maps of one image.
struct Image {
  const float* logits;   // (C, h, w)
  const float* offsets;  // (2, h, w)
  int32_t* panoptic;     // (H, W), and so on
  int32_t* semantic;
  int32_t* instance;
};

// One thread's row of work. Memory is allocated once for all rows.
class RowWorker {
 public:
  RowWorker(const Job& job, const CenterList& centers)
      : job_(job),
        centers_(centers),
        blended_((job.num_channels + 2) * job.map_width),
        steps_((job.num_channels + 2) * job.map_width),
        values_(job.num_channels * kPixelsAtOnce),
        best_(kPixelsAtOnce),
        total_(kPixelsAtOnce),
        channel_(kPixelsAtOnce),
        probability_(job.width, 0),
        offset_y_(job.width),
        offset_x_(job.width),
        is_thing_(job.width),
        grouping_(centers.size()) {}

  // Class, center and (in `probability_`) probability of every pixel of row y.
  void predict(const Image& image, int64_t y) {
    predict_classes(image, y);
    bool has_things = false;
    for (int64_t x = 0; x < job_.width; ++x) {
      has_things |= is_thing_[x] != 0;
    }
    int32_t* instance = image.instance + y * job_.width;
    if (!has_things || centers_.size() == 0) {
      std::fill_n(instance, job_.width, 0);
      return;
    }
    upsample_offsets(image, y);
    group_row(centers_, y, offset_y_.data(), offset_x_.data(), is_thing_.data(), job_.width,
              grouping_, instance);
    for (int64_t x = 0; x < job_.width; ++x) {
      instance[x] = is_thing_[x] ? instance[x] : 0;
    }
  }

  // Adds the row's runs of equal class and center.
  void count(const Image& image, int64_t y, SegmentCounts& counts) const {
    const int32_t* semantic = image.semantic + y * job_.width;
    const int32_t* instance = image.instance + y * job_.width;
    for (int64_t first = 0; first < job_.width;) {
      int64_t last = first;
      int64_t probability = 0;
      while (last < job_.width && semantic[last] == semantic[first] &&
             instance[last] == instance[first]) {
        probability += probability_[last++];
      }
      if (semantic[first] >= 0 && (!job_.is_thing[semantic[first]] || instance[first] > 0)) {
        counts.add_run(instance[first], semantic[first], y, first, last, job_.width, probability);
      }
      first = last;
    }
  }

  // Adds to each center's sum the probability of its class where the row's pixels have another.
  //
  // category: (K) class of each center; sums: (K).
  void add_outvoted(const Image& image, int64_t y, const int32_t* category,
                    const std::vector<int32_t>& class_to_channel, std::vector<int64_t>& sums) {
    const int32_t* semantic = image.semantic + y * job_.width;
    const int32_t* instance = image.instance + y * job_.width;
    const auto is_outvoted = [&](int64_t x) {
      return instance[x] > 0 && semantic[x] != category[instance[x] - 1];
    };
    bool is_started = false;
    for (int64_t first = 0; first < job_.width; first += kPixelsAtOnce) {
      int64_t end = std::min(first + kPixelsAtOnce, job_.width), begin = first;
      while (begin < end && !is_outvoted(begin)) {
        ++begin;
      }
      if (begin == end) {
        continue;
      }
      begin -= begin % 4;  // `expand` is faster there
      while (!is_outvoted(end - 1)) {
        --end;
      }
      if (!is_started) {
        start_row(image, y);
        is_started = true;
      }
      int64_t stride;
      const int64_t count = end - begin;
      const float* values = values_at(image, y, begin, count, stride);
      largest_channel(values, stride, job_.num_channels, count, best_.data(), channel_.data());
      sum_exponentials(values, stride, job_.num_channels, count, best_.data(), total_.data());
      for (int64_t i = 0; i < count; ++i) {
        if (is_outvoted(begin + i)) {
          const int64_t center = instance[begin + i] - 1;
          const int64_t channel = class_to_channel[category[center]];
          const float numerator = exp_nonpositive(values[channel * stride + i] - best_[i]);
          sums[center] += probability_units(numerator / total_[i]);
        }
      }
    }
  }

 private:
  // Makes row y of the logits ready for `values_at`.
  void start_row(const Image& image, int64_t y) {
    for (int64_t c = 0; !job_.is_identity() && c < job_.num_channels; ++c) {
      blend(image.logits + c * job_.map_height * job_.map_width, y, 1.0f, c);
    }
  }

  // Logits of the pixels first .. first + count - 1 of row y; channel c begins at c * `stride`.
  const float* values_at(const Image& image, int64_t y, int64_t first, int64_t count,
                         int64_t& stride) {
    if (job_.is_identity()) {
      stride = job_.height * job_.width;
      return image.logits + y * job_.width + first;
    }
    stride = kPixelsAtOnce;
    for (int64_t c = 0; c < job_.num_channels; ++c) {
      expand(c, first, count, &values_[c * kPixelsAtOnce]);
    }
    return values_.data();
  }

  void predict_classes(const Image& image, int64_t y) {
    int32_t* semantic = image.semantic + y * job_.width;
    start_row(image, y);
    for (int64_t first = 0; first < job_.width; first += kPixelsAtOnce) {
      const int64_t count = std::min(kPixelsAtOnce, job_.width - first);
      int64_t stride;
      const float* values = values_at(image, y, first, count, stride);
      largest_channel(values, stride, job_.num_channels, count, best_.data(), semantic + first);
      if (job_.with_probability) {
        sum_exponentials(values, stride, job_.num_channels, count, best_.data(), total_.data());
        for (int64_t i = 0; i < count; ++i) {
          probability_[first + i] = probability_units(1.0f / total_[i]);
        }
      }
    }
    for (int64_t x = 0; x < job_.width; ++x) {
      const int32_t channel = semantic[x];
      semantic[x] = job_.channel_to_class[channel];
      is_thing_[x] = job_.channel_is_thing[channel];
    }
  }

  void upsample_offsets(const Image& image, int64_t y) {
    const int64_t area = job_.map_height * job_.map_width;
    if (job_.is_identity()) {
      const float* offsets = image.offsets + y * job_.width;
      for (int64_t x = 0; x < job_.width; ++x) {
        offset_y_[x] = offsets[x] * job_.offset_scale_y;
        offset_x_[x] = offsets[area + x] * job_.offset_scale_x;
      }
      return;
    }
    blend(image.offsets, y, job_.offset_scale_y, job_.num_channels);
    blend(image.offsets + area, y, job_.offset_scale_x, job_.num_channels + 1);
    expand(job_.num_channels, 0, job_.width, offset_y_.data());
    expand(job_.num_channels + 1, 0, job_.width, offset_x_.data());
  }

  // The rows of a map (times a factor) between which output row y lies, blended into `slot`.
  void blend(const float* map, int64_t y, float factor, int64_t slot) {
    const int64_t lower = job_.rows.lower[y];
    const int64_t upper = std::min(lower + 1, job_.map_height - 1);
    float* row = &blended_[slot * job_.map_width];
    const float* above = map + lower * job_.map_width;
    const float* below = map + upper * job_.map_width;
    if (factor == 1.0f) {
      blend_rows(above, below, job_.rows.weight[y], job_.map_width, row);
    } else {
      blend_scaled_rows(above, below, factor, job_.rows.weight[y], job_.map_width, row);
    }
    row_steps(row, job_.map_width, &steps_[slot * job_.map_width]);
  }

  void expand(int64_t slot, int64_t first, int64_t count, float* out) const {
    const float* row = &blended_[slot * job_.map_width];
    const float* step = &steps_[slot * job_.map_width];
    if (job_.columns.is_quarter && first % 4 == 0) {
      expand_row_by_4(row + first / 4, step + first / 4, count, out);
      return;
    }
    expand_row(row, step, &job_.columns.lower[first], &job_.columns.weight[first], count, out);
  }

  const Job& job_;
  const CenterList& centers_;
  std::vector<float> blended_, steps_;  // (C + 2, w)
  std::vector<float> values_;           // (C, kPixelsAtOnce)
  std::vector<float> best_, total_;
  std::vector<int32_t> channel_;
  std::vector<int32_t> probability_;
  std::vector<float> offset_y_, offset_x_;
  std::vector<uint8_t> is_thing_;
  GroupingScratch grouping_;
};

// Sums of the probabilities of each instance's class where another class was predicted: (K).
std::vector<int64_t> outvoted_probability(const Job& job, const Image& image,
                                          const CenterList& centers, const SegmentRows& rows,
                                          int64_t num_centers) {
  std::vector<int32_t> class_to_channel(job.is_thing.size(), 0);
  for (int64_t c = 0; c < job.num_channels; ++c) {
    if (job.channel_to_class[c] >= 0) {
      class_to_channel[job.channel_to_class[c]] = static_cast<int32_t>(c);
    }
  }
  std::vector<std::vector<int64_t>> sums(at::get_num_threads(),
                                         std::vector<int64_t>(num_centers, 0));
  at::parallel_for(0, job.height, 8, [&](int64_t begin, int64_t end) {
    RowWorker worker(job, centers);
    std::vector<int64_t>& own = sums[at::get_thread_num()];
    for (int64_t y = begin; y < end; ++y) {
      worker.add_outvoted(image, y, rows.category, class_to_channel, own);
    }
  });
  for (size_t thread = 1; thread < sums.size(); ++thread) {
    for (int64_t k = 0; k < num_centers; ++k) {
      sums[0][k] += sums[thread][k];
    }
  }
  return sums[0];
}

void write_probability(const Job& job, const Image& image, const CenterList& centers,
                       const SegmentCounts& counts, const SegmentRows& rows, float* probability) {
  const std::vector<int64_t> outvoted =
      outvoted_probability(job, image, centers, rows, counts.num_centers);
  for (int64_t row = 0; row < counts.num_centers + counts.num_classes; ++row) {
    const bool is_instance = row < counts.num_centers;
    const int64_t table_row = is_instance ? row : counts.num_centers;
    int64_t sum = 0;
    if (rows.area[row] > 0) {
      sum = counts.probability[table_row * counts.num_classes + rows.category[row]];
      sum += is_instance ? outvoted[row] : 0;
    }
    const double unit = static_cast<double>(std::max(rows.area[row], 1)) * kProbabilityScale;
    probability[row] = static_cast<float>(static_cast<double>(sum) / unit);
  }
}

void process_image(const Job& job, const Image& image, const CenterList& centers,
                   int64_t num_centers, const float* center_scores, int64_t label_divisor,
                   int64_t stuff_area_limit, const SegmentRows& rows, float* probability) {
  std::vector<SegmentCounts> counts(at::get_num_threads(),
                                    SegmentCounts(num_centers, job.is_thing.size()));
  at::parallel_for(0, job.height, 8, [&](int64_t begin, int64_t end) {
    RowWorker worker(job, centers);
    SegmentCounts& own = counts[at::get_thread_num()];
    for (int64_t y = begin; y < end; ++y) {
      worker.predict(image, y);
      worker.count(image, y, own);
    }
  });
  for (size_t thread = 1; thread < counts.size(); ++thread) {
    counts[0].add(counts[thread]);
  }
  write_rows(counts[0], job.is_thing, center_scores, label_divisor, stuff_area_limit, rows);
  at::parallel_for(0, job.height, 16, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * job.width;
    label_row(image.semantic + first, image.instance + first, (end - begin) * job.width,
              job.is_thing, rows.panoptic_label, num_centers, image.panoptic + first);
  });
  if (job.with_probability) {
    write_probability(job, image, centers, counts[0], rows, probability);
  } else {
    for (int64_t row = 0; row < num_centers + static_cast<int64_t>(job.is_thing.size()); ++row) {
      probability[row] = rows.area[row] > 0 ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
    }
  }
}

PanopticResult panoptic_from_logits_cpu(const at::Tensor& semantic_logits,
                                        const at::Tensor& center_offsets, const at::Tensor& centers,
                                        const at::Tensor& center_scores,
                                        const at::Tensor& num_centers,
                                        at::IntArrayRef channel_to_class, at::IntArrayRef thing_ids,
                                        at::IntArrayRef size, at::ArrayRef<double> scale,
                                        at::ArrayRef<double> offset_scale, int64_t label_divisor,
                                        int64_t stuff_area_limit, bool with_probability) {
  check_panoptic_from_logits(semantic_logits, center_offsets, centers, center_scores, num_centers,
                             channel_to_class, size, scale, offset_scale);
  const int64_t num_classes = check_channel_classes(channel_to_class);
  check_label_divisor("panoptic_from_logits", label_divisor, num_classes);
  const int64_t num_images = semantic_logits.size(0), num_channels = semantic_logits.size(1);
  const int64_t map_height = semantic_logits.size(2), map_width = semantic_logits.size(3);
  const int64_t num_rows = centers.size(1), num_segments = num_rows + num_classes;
  const std::vector<uint8_t> is_thing = class_flags("panoptic_from_logits", thing_ids, num_classes);
  std::vector<uint8_t> channel_is_thing;
  for (const int64_t id : channel_to_class) {
    channel_is_thing.push_back(id >= 0 && is_thing[id]);
  }
  const Job job{num_channels,
                map_height,
                map_width,
                size[0],
                size[1],
                AxisPositions<float>(size[0], map_height, static_cast<float>(scale[0])),
                AxisPositions<float>(size[1], map_width, static_cast<float>(scale[1])),
                static_cast<float>(offset_scale[0]),
                static_cast<float>(offset_scale[1]),
                std::vector<int32_t>(channel_to_class.begin(), channel_to_class.end()),
                is_thing,
                channel_is_thing,
                with_probability};

  const at::Tensor logits = semantic_logits.to(at::kFloat).contiguous();
  const at::Tensor offsets = center_offsets.to(at::kFloat).contiguous();
  const at::Tensor points = centers.contiguous();
  const at::Tensor scores = center_scores.to(at::kFloat).contiguous();
  const at::Tensor counts = num_centers.contiguous();
  const auto integers = logits.options().dtype(at::kInt);
  at::Tensor panoptic = at::empty({num_images, size[0], size[1]}, integers);
  at::Tensor semantic = at::empty_like(panoptic);
  at::Tensor instance = at::empty_like(panoptic);
  at::Tensor label = at::empty({num_images, num_segments}, integers);
  at::Tensor category = at::empty_like(label);
  at::Tensor area = at::empty_like(label);
  at::Tensor box = at::empty({num_images, num_segments, 4}, integers);
  at::Tensor objectness = at::empty({num_images, num_segments}, logits.options());
  at::Tensor probability = at::empty_like(objectness);
  for (int64_t i = 0; i < num_images; ++i) {
    const int64_t area_out = size[0] * size[1], area_in = map_height * map_width;
    const Image image{logits.const_data_ptr<float>() + i * num_channels * area_in,
                      offsets.const_data_ptr<float>() + i * 2 * area_in,
                      panoptic.mutable_data_ptr<int32_t>() + i * area_out,
                      semantic.mutable_data_ptr<int32_t>() + i * area_out,
                      instance.mutable_data_ptr<int32_t>() + i * area_out};
    const SegmentRows rows{label.mutable_data_ptr<int32_t>() + i * num_segments,
                           category.mutable_data_ptr<int32_t>() + i * num_segments,
                           area.mutable_data_ptr<int32_t>() + i * num_segments,
                           box.mutable_data_ptr<int32_t>() + i * num_segments * 4,
                           objectness.mutable_data_ptr<float>() + i * num_segments};
    const CenterList list(points.const_data_ptr<float>() + i * num_rows * 2, num_rows,
                          counts.const_data_ptr<int32_t>()[i]);
    process_image(job, image, list, num_rows, scores.const_data_ptr<float>() + i * num_rows,
                  label_divisor, stuff_area_limit, rows,
                  probability.mutable_data_ptr<float>() + i * num_segments);
  }
  return {panoptic, semantic, instance, label, category, area, box, objectness, probability};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) {
  m.impl("panoptic_from_logits", &panoptic_from_logits_cpu);
}

}  // namespace deeplab2_d2
