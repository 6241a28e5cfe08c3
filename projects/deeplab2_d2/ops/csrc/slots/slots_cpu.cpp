#include <ATen/Parallel.h>
#include <torch/library.h>

#include <numeric>

#include "../resampling/resampling.h"
#include "slot_loops.h"
#include "slot_table.h"

namespace deeplab2_d2 {

namespace {

// The maps of one image, and where their pixels are.
struct SlotMaps {
  const float* logits;  // (S, h, w)
  int64_t map_height, map_width, height, width;
  const AxisPositions<float>& rows;
  const AxisPositions<float>& columns;
  int32_t* panoptic;  // (H, W), and so on
  int32_t* semantic;
  int32_t* slot;
  float* confidence;
};

// One thread's row of work. Memory is allocated once for all rows.
class SlotRowWorker {
 public:
  SlotRowWorker(const SlotRules& rules, const SlotClasses& classes, const SlotMaps& maps)
      : rules_(rules),
        classes_(classes),
        maps_(maps),
        stride_(maps.map_width + kRowPadding),
        rows_(rules.num_slots * stride_),
        values_(rules.num_slots * kPixelsAtOnce),
        every_slot_(rules.num_slots) {
    std::iota(every_slot_.begin(), every_slot_.end(), 0);
  }

  // Writes the row's classes, confidences and, pixel-wise, slots; packs into `panoptic` the slots
  // that the pixels may belong to, and counts them.
  void predict(int64_t y, SlotCounts& counts) {
    for (int64_t s = 0; s < rules_.num_slots; ++s) {
      if (is_identity()) {
        copy(s, y);
      } else {
        blend(s, maps_.rows.lower[y], maps_.rows.weight[y]);
      }
    }
    const bool is_quarter = maps_.columns.is_quarter;
    const int64_t row = y * maps_.width;
    for (int64_t x = 0; x < maps_.width; x += kPixelsAtOnce) {
      const int64_t count = std::min(kPixelsAtOnce, maps_.width - x);
      upsample(x, count);
      if (rules_.is_mask_wise) {
        choose_masks();
      } else {
        choose_slots();
      }
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = is_quarter ? (i % 4) * (kPixelsAtOnce / 4) + i / 4 : i;
        maps_.semantic[row + x + i] = classes_.category[slot_[at]];
        maps_.slot[row + x + i] = chosen_[at];
        maps_.confidence[row + x + i] = confidence_[at];
        maps_.panoptic[row + x + i] = code_[at];
      }
    }
    const int32_t* codes = maps_.panoptic + row;
    for (int64_t first = 0, last; first < maps_.width; first = last) {
      for (last = first + 1; last < maps_.width && codes[last] == codes[first];) {
        ++last;
      }
      counts.add_run(codes[first], last - first);
    }
  }

  // Adds row y of the map itself, its first `width` columns, to the scores of the masks.
  void score_masks(int64_t y, int64_t width, MaskScores& scores) {
    for (int64_t s = 0; s < rules_.num_slots; ++s) {
      copy(s, y);
    }
    for (int64_t x = 0; x < width; x += kPixelsAtOnce) {
      copy_columns({rows_.data() + x, stride_, rules_.num_slots}, values_.data(), largest());
      choose_masks();
      for (int64_t i = 0; i < std::min(kPixelsAtOnce, width - x); ++i) {
        const int32_t first = code_[i] & kNoSlot, second = (code_[i] >> 16) & kNoSlot;
        if (first != kNoSlot) {
          scores.unit[first] += probability_units(1.0f / total_[i]);
          ++scores.count[first];
        }
        if (second != kNoSlot) {
          scores.unit[second] += probability_units(second_probability_[i]);
          ++scores.count[second];
        }
      }
    }
  }

 private:
  // Whether the map has the output's resolution already.
  bool is_identity() const { return maps_.rows.is_identity && maps_.columns.is_identity; }

  // Row `y` of a slot's map, padded.
  void copy(int64_t s, int64_t y) {
    const int64_t width = maps_.map_width;
    float* row = &rows_[s * stride_];
    std::copy_n(maps_.logits + (s * maps_.map_height + y) * width, width, row);
    std::fill_n(row + width, kRowPadding, row[width - 1]);
  }

  // Row `lower` of a slot's map and the row below, blended and padded.
  void blend(int64_t s, int64_t lower, float weight) {
    const int64_t width = maps_.map_width;
    const int64_t upper = std::min(lower + 1, maps_.map_height - 1);
    const float* map = maps_.logits + s * maps_.map_height * width;
    float* row = &rows_[s * stride_];
    blend_rows(map + lower * width, map + upper * width, weight, width, row);
    std::fill_n(row + width, kRowPadding, row[width - 1]);
  }

  LargestSlots largest() {
    if (rules_.is_mask_wise) {
      return {best_, slot_, second_, second_slot_};
    }
    return {best_, slot_, nullptr, nullptr};
  }

  void upsample(int64_t x, int64_t count) {
    if (is_identity()) {
      copy_columns({rows_.data() + x, stride_, rules_.num_slots}, values_.data(), largest());
      return;
    }
    if (maps_.columns.is_quarter) {
      upsample_by_4({rows_.data() + x / 4, stride_, rules_.num_slots}, values_.data(), largest());
      return;
    }
    int32_t lower[kPixelsAtOnce];
    float weight[kPixelsAtOnce];
    const int32_t first = maps_.columns.lower[x];
    for (int64_t i = 0; i < kPixelsAtOnce; ++i) {
      const int64_t at = x + std::min(i, count - 1);
      lower[i] = maps_.columns.lower[at] - first;
      weight[i] = maps_.columns.weight[at];
    }
    upsample_at({rows_.data() + first, stride_, rules_.num_slots}, lower, weight, values_.data(),
                largest());
  }

  // Pixel-wise: the largest of the confident slots, and the one slot that the pixel may belong to.
  void choose_slots() {
    const int32_t* slots = classes_.confident.data();
    const int64_t num_slots = classes_.confident.size();
    if (num_slots == 0) {
      std::fill_n(chosen_, kPixelsAtOnce, -1);
      std::fill_n(code_, kPixelsAtOnce, -1);
      std::fill_n(confidence_, kPixelsAtOnce, 0.0f);
      return;
    }
    largest_of_slots(values_.data(), slots, num_slots, second_, chosen_);
    sum_exponentials(values_.data(), slots, num_slots, second_, total_);
    for (int64_t i = 0; i < kPixelsAtOnce; ++i) {
      confidence_[i] = 1.0f / total_[i];
      const bool is_kept = confidence_[i] > rules_.mask_threshold && second_[i] == best_[i];
      code_[i] = (is_kept ? chosen_[i] : kNoSlot) | (kNoSlot << 16);
    }
  }

  // Mask-wise: the masks that the pixel is in. The slot is not known before they are pasted.
  void choose_masks() {
    sum_exponentials(values_.data(), every_slot_.data(), rules_.num_slots, best_, total_);
    softmax_of(second_, best_, total_, second_probability_);
    for (int64_t i = 0; i < kPixelsAtOnce; ++i) {
      const float probability = 1.0f / total_[i];
      const bool has_first = probability > rules_.mask_threshold;
      const bool has_second =
          second_slot_[i] >= 0 && second_probability_[i] > rules_.mask_threshold;
      confidence_[i] = classes_.has_any ? probability : 0.0f;
      code_[i] =
          (has_first ? slot_[i] : kNoSlot) | ((has_second ? second_slot_[i] : kNoSlot) << 16);
      chosen_[i] = -1;
    }
  }

  const SlotRules& rules_;
  const SlotClasses& classes_;
  const SlotMaps& maps_;
  const int64_t stride_;
  std::vector<float> rows_;    // (S, w + padding)
  std::vector<float> values_;  // (S, kPixelsAtOnce)
  std::vector<int32_t> every_slot_;
  float best_[kPixelsAtOnce], second_[kPixelsAtOnce], total_[kPixelsAtOnce];
  float confidence_[kPixelsAtOnce], second_probability_[kPixelsAtOnce];
  int32_t slot_[kPixelsAtOnce], second_slot_[kPixelsAtOnce];
  int32_t chosen_[kPixelsAtOnce], code_[kPixelsAtOnce];
};

// The slot of a pixel that may belong to the slots in `code`; -1 for none.
int32_t winning_slot(const SlotSegments& segments, int32_t code) {
  int32_t winner = -1;
  for (const int32_t slot : {code & kNoSlot, (code >> 16) & kNoSlot}) {
    if (slot != kNoSlot && segments.slot_area[slot] > 0 &&
        (winner < 0 || segments.rank[slot] < segments.rank[winner])) {
      winner = slot;
    }
  }
  return winner;
}

// Replaces the packed slots of a row by its labels.
void label_pixels(const SlotMaps& maps, const SlotRules& rules, const SlotSegments& segments,
                  int64_t y, SegmentExtents& extents) {
  int32_t* panoptic = maps.panoptic + y * maps.width;
  int32_t* slots = maps.slot + y * maps.width;
  const float* confidence = maps.confidence + y * maps.width;
  for (int64_t first = 0, last; first < maps.width; first = last) {
    const int32_t code = panoptic[first];
    const int32_t slot = winning_slot(segments, code);
    const int32_t row = slot < 0 ? -1 : segments.row[slot];
    const int32_t label = row < 0 ? kVoid : segments.label[row];
    int64_t unit = 0;
    for (last = first; last < maps.width && panoptic[last] == code; ++last) {
      panoptic[last] = label;
      unit += probability_units(confidence[last]);
    }
    if (rules.is_mask_wise) {
      std::fill(slots + first, slots + last, slot);
    }
    if (row >= 0) {
      Box run;
      run.min_y = run.max_y = static_cast<int32_t>(y);
      run.min_x = static_cast<int32_t>(first);
      run.max_x = static_cast<int32_t>(last - 1);
      extents.boxes[row].include(run);
      extents.unit[row] += unit;
    }
  }
}

// Calls work(row, counts) for every row, with counts of each thread; adds these up.
template <typename counts_t, typename make_work_t>
counts_t count_rows(int64_t num_rows, const counts_t& empty, const make_work_t& make_work) {
  std::vector<counts_t> counts(at::get_num_threads(), empty);
  at::parallel_for(0, num_rows, 4, [&](int64_t begin, int64_t end) {
    auto work = make_work();
    for (int64_t y = begin; y < end; ++y) {
      work(y, counts[at::get_thread_num()]);
    }
  });
  for (size_t thread = 1; thread < counts.size(); ++thread) {
    counts[0].add(counts[thread]);
  }
  return counts[0];
}

// How many pixels of a map's axis the output is interpolated from.
int64_t covered_length(const AxisPositions<float>& positions, int64_t source_length) {
  const int64_t length = positions.lower.back() + 1 + (positions.weight.back() > 0.0f);
  return std::min(length, source_length);
}

std::vector<int32_t> order_masks(const SlotRules& rules, const SlotClasses& classes,
                                 const SlotMaps& maps) {
  MaskScores scores(rules.num_slots);
  if (rules.is_mask_wise && rules.mask_weight > 0.0) {
    const int64_t width = covered_length(maps.columns, maps.map_width);
    scores = count_rows(covered_length(maps.rows, maps.map_height), scores, [&]() {
      return [&, worker = SlotRowWorker(rules, classes, maps)](int64_t y, MaskScores& own) mutable {
        worker.score_masks(y, width, own);
      };
    });
  }
  if (rules.is_mask_wise) {
    return rank_slots(rules, classes, scores);
  }
  std::vector<int32_t> rank(rules.num_slots);
  std::iota(rank.begin(), rank.end(), 0);
  return rank;
}

SlotSegments process_image(const SlotRules& rules, const SlotClasses& classes, const SlotMaps& maps,
                           const SlotTable& table) {
  const std::vector<int32_t> rank = order_masks(rules, classes, maps);
  const SlotCounts counts = count_rows(maps.height, SlotCounts(rules), [&]() {
    return [worker = SlotRowWorker(rules, classes, maps)](int64_t y, SlotCounts& own) mutable {
      worker.predict(y, own);
    };
  });
  const SlotSegments segments = decide_segments(rules, classes, rank, counts);
  const SegmentExtents extents =
      count_rows(maps.height, SegmentExtents(rules.num_slots + rules.num_classes), [&]() {
        return [&](int64_t y, SegmentExtents& own) { label_pixels(maps, rules, segments, y, own); };
      });
  write_slot_table(rules, classes, segments, extents, table);
  return segments;
}

SlotRules make_rules(const SlotOptions& options, int64_t num_slots, int64_t num_classes) {
  SlotRules rules;
  rules.num_slots = num_slots;
  rules.num_classes = num_classes;
  rules.label_divisor = options.label_divisor;
  rules.is_mask_wise = options.is_mask_wise;
  rules.channel_to_class.assign(options.channel_to_class.begin(), options.channel_to_class.end());
  rules.is_thing = class_flags("panoptic_from_slots", options.thing_ids, num_classes);
  rules.thing_threshold = static_cast<float>(options.class_thresholds[0]);
  rules.stuff_threshold = static_cast<float>(options.class_thresholds[1]);
  rules.mask_threshold = static_cast<float>(options.mask_threshold);
  rules.overlap_threshold = static_cast<float>(options.overlap_threshold);
  rules.class_weight = options.rank_weights[0];
  rules.mask_weight = options.rank_weights[1];
  rules.thing_area_limit = options.area_limits[0];
  rules.stuff_area_limit = options.area_limits[1];
  return rules;
}

SlotsResult panoptic_from_slots_cpu(const at::Tensor& mask_logits, const at::Tensor& class_logits,
                                    at::IntArrayRef channel_to_class, at::IntArrayRef thing_ids,
                                    at::IntArrayRef size, at::ArrayRef<double> scale,
                                    int64_t label_divisor, bool is_mask_wise,
                                    at::ArrayRef<double> class_thresholds, double mask_threshold,
                                    double overlap_threshold, at::ArrayRef<double> rank_weights,
                                    at::IntArrayRef area_limits) {
  const SlotOptions options{channel_to_class,
                            thing_ids,
                            size,
                            scale,
                            label_divisor,
                            is_mask_wise,
                            class_thresholds,
                            mask_threshold,
                            overlap_threshold,
                            rank_weights,
                            area_limits};
  const int64_t num_classes = check_slots(mask_logits, class_logits, options);
  const int64_t num_images = mask_logits.size(0), num_slots = mask_logits.size(1);
  const int64_t map_height = mask_logits.size(2), map_width = mask_logits.size(3);
  const SlotRules rules = make_rules(options, num_slots, num_classes);
  const AxisPositions<float> rows(size[0], map_height, static_cast<float>(scale[0]));
  const AxisPositions<float> columns(size[1], map_width, static_cast<float>(scale[1]));
  const at::Tensor masks = mask_logits.to(at::kFloat).contiguous();
  const at::Tensor classes = class_logits.to(at::kDouble).contiguous();
  SlotOutputs out(mask_logits, options, num_classes);
  for (int64_t i = 0; i < num_images; ++i) {
    const int64_t pixels = i * size[0] * size[1], row = i * (num_slots + num_classes);
    const SlotMaps maps{masks.const_data_ptr<float>() + i * num_slots * map_height * map_width,
                        map_height,
                        map_width,
                        size[0],
                        size[1],
                        rows,
                        columns,
                        out.panoptic.mutable_data_ptr<int32_t>() + pixels,
                        out.semantic.mutable_data_ptr<int32_t>() + pixels,
                        out.slot.mutable_data_ptr<int32_t>() + pixels,
                        out.confidence.mutable_data_ptr<float>() + pixels};
    const SlotTable table{out.label.mutable_data_ptr<int32_t>() + row,
                          out.category.mutable_data_ptr<int32_t>() + row,
                          out.area.mutable_data_ptr<int32_t>() + row,
                          out.box.mutable_data_ptr<int32_t>() + 4 * row,
                          out.objectness.mutable_data_ptr<float>() + row,
                          out.probability.mutable_data_ptr<float>() + row,
                          out.segment_slot.mutable_data_ptr<int32_t>() + row};
    const SlotClasses slots = classify_slots(
        rules, classes.const_data_ptr<double>() + i * num_slots * (channel_to_class.size() + 1));
    const SlotSegments segments = process_image(rules, slots, maps, table);
    std::copy_n(slots.confidence.begin(), num_slots,
                out.class_confidence.mutable_data_ptr<float>() + i * num_slots);
    std::copy_n(segments.rank.begin(), num_slots,
                out.rank.mutable_data_ptr<int32_t>() + i * num_slots);
  }
  return out.result();
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("panoptic_from_slots", &panoptic_from_slots_cpu); }

}  // namespace deeplab2_d2
