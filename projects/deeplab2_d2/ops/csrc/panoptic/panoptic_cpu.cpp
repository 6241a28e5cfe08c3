#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../dispatch.h"
#include "../exponential_lanes.h"
#include "../resampling/map_rows.h"
#include "panoptic.h"

namespace deeplab2_d2 {
namespace {

// The denominator of the softmax, relative to the largest channel; NaN if a logit is NaN or
// infinite.
DEEPLAB2_D2_CLONES
void sum_exponentials(const float* values, int64_t stride, int64_t num_channels, int64_t count,
                      const float* best, float* total) {
  sum_exponentials_of(values, stride, num_channels, count, best, total);
}

// What one call works on; shared by all threads.
struct Job {
  int64_t num_channels;
  MapFrame frame;  // of all maps
  float offset_scale_y, offset_scale_x;
  std::vector<int32_t> channel_to_class;
  std::vector<uint8_t> is_thing;          // by class
  std::vector<uint8_t> channel_is_thing;  // by channel
  bool with_probability;
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
        logits_(job.frame, job.num_channels),
        offsets_(job.frame, 2),
        best_(kChannelPixels),
        total_(kChannelPixels),
        channel_(kChannelPixels),
        probability_(job.frame.width, 0),
        offset_y_(job.frame.width),
        offset_x_(job.frame.width),
        is_thing_(job.frame.width),
        grouping_(centers.size()) {}

  // Class, center and (in `probability_`) probability of every pixel of row y.
  void predict(const Image& image, int64_t y) {
    predict_classes(image, y);
    bool has_things = false;
    for (int64_t x = 0; x < job_.frame.width; ++x) {
      has_things |= is_thing_[x] != 0;
    }
    int32_t* instance = image.instance + y * job_.frame.width;
    if (!has_things || centers_.size() == 0) {
      std::fill_n(instance, job_.frame.width, 0);
      return;
    }
    upsample_offsets(image, y);
    group_row(centers_, y, offset_y_.data(), offset_x_.data(), is_thing_.data(), job_.frame.width,
              grouping_, instance);
    for (int64_t x = 0; x < job_.frame.width; ++x) {
      instance[x] = is_thing_[x] ? instance[x] : 0;
    }
  }

  // Adds the row's runs of equal class and center.
  void count(const Image& image, int64_t y, SegmentCounts& counts) const {
    const int32_t* semantic = image.semantic + y * job_.frame.width;
    const int32_t* instance = image.instance + y * job_.frame.width;
    for (int64_t first = 0; first < job_.frame.width;) {
      int64_t last = first;
      int64_t probability = 0;
      while (last < job_.frame.width && semantic[last] == semantic[first] &&
             instance[last] == instance[first]) {
        probability += probability_[last++];
      }
      if (semantic[first] >= 0 && (!job_.is_thing[semantic[first]] || instance[first] > 0)) {
        counts.add_run(instance[first], semantic[first], y, first, last, job_.frame.width,
                       probability);
      }
      first = last;
    }
  }

  // Adds to each center's sum the probability of its class where the row's pixels have another.
  //
  // category: (K) class of each center; sums: (K).
  void add_outvoted(const Image& image, int64_t y, const int32_t* category,
                    const std::vector<int32_t>& class_to_channel, std::vector<int64_t>& sums) {
    const int32_t* semantic = image.semantic + y * job_.frame.width;
    const int32_t* instance = image.instance + y * job_.frame.width;
    const auto is_outvoted = [&](int64_t x) {
      return instance[x] > 0 && semantic[x] != category[instance[x] - 1];
    };
    bool is_started = false;
    for (int64_t first = 0; first < job_.frame.width; first += kChannelPixels) {
      int64_t end = std::min(first + kChannelPixels, job_.frame.width), begin = first;
      while (begin < end && !is_outvoted(begin)) {
        ++begin;
      }
      if (begin == end) {
        continue;
      }
      while (!is_outvoted(end - 1)) {
        --end;
      }
      if (!is_started) {
        logits_.start(image.logits, y);
        is_started = true;
      }
      int64_t stride;
      const int64_t count = end - begin;
      const float* values = logits_.values(image.logits, y, begin, count, stride);
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
  void predict_classes(const Image& image, int64_t y) {
    int32_t* semantic = image.semantic + y * job_.frame.width;
    logits_.start(image.logits, y);
    for (int64_t first = 0; first < job_.frame.width; first += kChannelPixels) {
      const int64_t count = std::min(kChannelPixels, job_.frame.width - first);
      int64_t stride;
      const float* values = logits_.values(image.logits, y, first, count, stride);
      largest_channel(values, stride, job_.num_channels, count, best_.data(), semantic + first);
      if (job_.with_probability) {
        sum_exponentials(values, stride, job_.num_channels, count, best_.data(), total_.data());
        for (int64_t i = 0; i < count; ++i) {
          probability_[first + i] = probability_units(1.0f / total_[i]);
        }
      }
    }
    for (int64_t x = 0; x < job_.frame.width; ++x) {
      const int32_t channel = semantic[x];
      semantic[x] = job_.channel_to_class[channel];
      is_thing_[x] = job_.channel_is_thing[channel];
    }
  }

  void upsample_offsets(const Image& image, int64_t y) {
    const int64_t area = job_.frame.map_area();
    if (job_.frame.is_identity()) {
      const float* offsets = image.offsets + y * job_.frame.width;
      for (int64_t x = 0; x < job_.frame.width; ++x) {
        offset_y_[x] = offsets[x] * job_.offset_scale_y;
        offset_x_[x] = offsets[area + x] * job_.offset_scale_x;
      }
      return;
    }
    offsets_.blend(image.offsets, y, job_.offset_scale_y, 0);
    offsets_.blend(image.offsets + area, y, job_.offset_scale_x, 1);
    offsets_.expand(0, 0, job_.frame.width, offset_y_.data());
    offsets_.expand(1, 0, job_.frame.width, offset_x_.data());
  }

  const Job& job_;
  const CenterList& centers_;
  ChannelRows logits_;
  MapRows offsets_;
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
  at::parallel_for(0, job.frame.height, 8, [&](int64_t begin, int64_t end) {
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
  at::parallel_for(0, job.frame.height, 8, [&](int64_t begin, int64_t end) {
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
  at::parallel_for(0, job.frame.height, 16, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * job.frame.width;
    label_row(image.semantic + first, image.instance + first, (end - begin) * job.frame.width,
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
                MapFrame(map_height, map_width, size, scale),
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
