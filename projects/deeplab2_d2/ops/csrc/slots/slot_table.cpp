#include "slot_table.h"

#include <algorithm>
#include <limits>

#include "../exponential.h"
#include "../ordering.h"

namespace deeplab2_d2 {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename number_t>
void add_all(std::vector<number_t>& sums, const std::vector<number_t>& terms) {
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] += terms[i];
  }
}

// Pastes the masks in their order; sets the area of those that are.
void paste_masks(const SlotRules& rules, const SlotClasses& classes, const SlotCounts& counts,
                 SlotSegments& segments) {
  const int64_t num_slots = rules.num_slots;
  std::vector<int32_t> order(num_slots);
  for (int64_t s = 0; s < num_slots; ++s) {
    order[segments.rank[s]] = static_cast<int32_t>(s);
  }
  std::vector<uint8_t> is_confident(num_slots, 0), is_pasted(num_slots, 0);
  for (const int32_t s : classes.confident) {
    is_confident[s] = 1;
  }
  for (const int32_t s : order) {
    int64_t all = counts.single[s], taken = 0;
    for (int64_t other = 0; other < num_slots; ++other) {
      const int64_t shared =
          int64_t(counts.pair[s * num_slots + other]) + counts.pair[other * num_slots + s];
      all += shared;
      taken += is_pasted[other] ? shared : 0;
    }
    const float least = static_cast<float>(all) * rules.overlap_threshold;
    if (is_confident[s] && static_cast<float>(all - taken) > least) {
      is_pasted[s] = 1;
      segments.slot_area[s] = all - taken;
    }
  }
}

}  // namespace

void SlotCounts::add(const SlotCounts& other) {
  add_all(single, other.single);
  add_all(pair, other.pair);
}

void MaskScores::add(const MaskScores& other) {
  add_all(unit, other.unit);
  add_all(count, other.count);
}

void SegmentExtents::add(const SegmentExtents& other) {
  add_all(unit, other.unit);
  for (size_t row = 0; row < boxes.size(); ++row) {
    boxes[row].include(other.boxes[row]);
  }
}

SlotClasses classify_slots(const SlotRules& rules, const double* class_logits) {
  const int64_t num_channels = rules.channel_to_class.size() + 1;
  SlotClasses classes{};
  for (int64_t s = 0; s < rules.num_slots; ++s) {
    const double* logits = class_logits + s * num_channels;
    const double largest = *std::max_element(logits, logits + num_channels);
    double total = 0.0;
    for (int64_t c = 0; c < num_channels; ++c) {
      total += exp_nonpositive_double(logits[c] - largest);
    }
    int64_t channel = 0;
    for (int64_t c = 1; c < num_channels - 1; ++c) {
      channel = is_new_largest(logits[c], logits[channel]) ? c : channel;
    }
    const int32_t category = rules.channel_to_class[channel];
    const float confidence =
        static_cast<float>(exp_nonpositive_double(logits[channel] - largest) / total);
    const bool is_thing = rules.is_thing[category];
    classes.category.push_back(category);
    classes.confidence.push_back(confidence);
    classes.is_thing.push_back(is_thing);
    if (confidence >= (is_thing ? rules.thing_threshold : rules.stuff_threshold)) {
      classes.confident.push_back(static_cast<int32_t>(s));
    }
    classes.has_any |= confidence >= std::min(rules.thing_threshold, rules.stuff_threshold);
  }
  return classes;
}

std::vector<int32_t> rank_slots(const SlotRules& rules, const SlotClasses& classes,
                                const MaskScores& scores) {
  std::vector<double> logs(rules.num_slots, 0.0);
  for (int64_t s = 0; s < rules.num_slots; ++s) {
    if (rules.class_weight > 0.0) {
      const double confidence = classes.confidence[s];
      logs[s] += confidence > 0.0 ? log_positive(confidence) * rules.class_weight : -kInfinity;
    }
    if (rules.mask_weight > 0.0) {
      const double number = static_cast<double>(std::max<int64_t>(scores.count[s], 1));
      const double mean = static_cast<double>(scores.unit[s]) / (number * kProbabilityScale);
      logs[s] += mean > 0.0 ? log_positive(mean) * rules.mask_weight : -kInfinity;
    }
  }
  std::vector<int32_t> rank(rules.num_slots, 0);
  for (int64_t s = 0; s < rules.num_slots; ++s) {
    for (int64_t other = 0; other < rules.num_slots; ++other) {
      rank[s] += logs[other] > logs[s] || (logs[other] == logs[s] && other < s);
    }
  }
  return rank;
}

SlotSegments decide_segments(const SlotRules& rules, const SlotClasses& classes,
                             const std::vector<int32_t>& rank, const SlotCounts& counts) {
  const int64_t num_slots = rules.num_slots, num_rows = num_slots + rules.num_classes;
  SlotSegments segments;
  segments.rank = rank;
  segments.slot_area = rules.is_mask_wise ? std::vector<int64_t>(num_slots, 0) : counts.single;
  if (rules.is_mask_wise) {
    paste_masks(rules, classes, counts, segments);
  }
  segments.area.assign(num_rows, 0);
  segments.label.assign(num_rows, kVoid);
  for (int64_t s = 0; s < num_slots; ++s) {
    const int64_t row = classes.is_thing[s] ? s : num_slots + classes.category[s];
    segments.row.push_back(static_cast<int32_t>(row));
    segments.area[row] += segments.slot_area[s];
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    const bool is_thing = row < num_slots;
    if (segments.area[row] < (is_thing ? rules.thing_area_limit : rules.stuff_area_limit)) {
      segments.area[row] = 0;
    }
    if (segments.area[row] > 0) {
      const int64_t category = is_thing ? classes.category[row] : row - num_slots;
      const int64_t number = is_thing ? rank[row] + 1 : 0;
      segments.label[row] = static_cast<int32_t>(category * rules.label_divisor + number);
    }
  }
  for (int32_t& row : segments.row) {
    row = segments.area[row] > 0 ? row : -1;
  }
  return segments;
}

void write_slot_table(const SlotRules& rules, const SlotClasses& classes,
                      const SlotSegments& segments, const SegmentExtents& extents,
                      const SlotTable& table) {
  const int64_t num_slots = rules.num_slots, num_rows = num_slots + rules.num_classes;
  std::vector<int64_t> class_unit(num_rows, 0), most(num_rows, -1);
  std::fill_n(table.segment_slot, num_rows, -1);
  for (int64_t s = 0; s < num_slots; ++s) {
    const int32_t row = segments.row[s];
    if (row < 0) {
      continue;
    }
    class_unit[row] += segments.slot_area[s] * probability_units(classes.confidence[s]);
    if (segments.slot_area[s] > most[row]) {
      most[row] = segments.slot_area[s];
      table.segment_slot[row] = static_cast<int32_t>(s);
    }
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    const bool is_absent = segments.area[row] == 0;
    const int64_t category = row < num_slots ? classes.category[row] : row - num_slots;
    const double unit =
        static_cast<double>(std::max<int64_t>(segments.area[row], 1)) * kProbabilityScale;
    const Box& box = extents.boxes[row];
    table.label[row] = segments.label[row];
    table.category[row] = is_absent ? kVoid : static_cast<int32_t>(category);
    table.area[row] = static_cast<int32_t>(segments.area[row]);
    table.box[4 * row] = is_absent ? 0 : box.min_y;
    table.box[4 * row + 1] = is_absent ? 0 : box.min_x;
    table.box[4 * row + 2] = is_absent ? 0 : box.max_y + 1;
    table.box[4 * row + 3] = is_absent ? 0 : box.max_x + 1;
    table.objectness[row] = static_cast<float>(static_cast<double>(extents.unit[row]) / unit);
    table.probability[row] = static_cast<float>(static_cast<double>(class_unit[row]) / unit);
  }
}

}  // namespace deeplab2_d2
