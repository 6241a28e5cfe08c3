#include "memory_shadow.h"

#include <dlfcn.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "block_schedule.h"

namespace cuda_on_cpu::shadow {
namespace {

constexpr uintptr_t kPageBytes = 256;
constexpr uintptr_t kWordBytes = 4;

// Who used a cell. Time goes on at each wait: what happened before it has a smaller one.
struct Record {
  uint32_t time = 0;  // 0 if nobody did
  uint32_t block = 0;
  uint16_t thread = 0;
  Use use = Use::kLoad;
  const void* code = nullptr;
};

// The latest uses of two threads, chosen so that a later use that is not ordered after all former
// ones is not ordered after one of these.
using Pair = Record[2];

struct Cell {
  Record store;
  Pair loads, volatile_loads, atomics;
  bool has_value = false;
};

// Cells of words, or of bytes once a part of a word has been used.
struct Page {
  uintptr_t cell_bytes = kWordBytes;
  std::vector<Cell> cells = std::vector<Cell>(kPageBytes / kWordBytes);

  void split() {
    std::vector<Cell> bytes;
    for (const Cell& word : cells) {
      bytes.insert(bytes.end(), kWordBytes, word);
    }
    cells = std::move(bytes);
    cell_bytes = 1;
  }
};

using Pages = std::unordered_map<uintptr_t, std::unique_ptr<Page>>;

struct Shared {
  std::string name;
  uintptr_t first, bytes;
};

struct Shadow {
  bool is_on = false;
  std::string kernel;
  uint32_t block = 0;
  uint32_t time = 0, block_time = 0;  // now, and of the block's last wait
  uint32_t warp_time[kMaxThreads / kWarp] = {};
  std::vector<Shared> shared;
  Pages global_pages, shared_pages;
  std::string reports, launched;
  std::set<std::tuple<std::string, const void*, const void*>> known;
};

Shadow& shadow() {
  static Shadow only;
  return only;
}

bool is_same_thread(const Record& a, const Record& b) {
  return a.block == b.block && a.thread == b.thread;
}

bool is_same_warp(const Record& a, const Record& b) {
  return a.block == b.block && a.thread / kWarp == b.thread / kWarp;
}

bool is_ordered(const Record& before, const Record& now) {
  return before.block == now.block &&
         (before.thread == now.thread || before.time < shadow().block_time ||
          (is_same_warp(before, now) && before.time < shadow().warp_time[now.thread / kWarp]));
}

void keep(Pair& pair, const Record& now) {
  for (Record& kept : pair) {
    if (kept.time == 0 || is_same_thread(kept, now)) {
      kept = now;
      return;
    }
  }
  for (Record& kept : pair) {
    if (is_ordered(kept, now)) {
      kept = now;
      return;
    }
  }
  // Two warps race with whoever comes next; within one warp two threads do.
  if (is_same_warp(pair[0], pair[1]) && !is_same_warp(pair[1], now)) {
    pair[1] = now;
  }
}

std::string describe(const Record& record) {
  static const char* const kNames[] = {"load", "store", "volatile load", "atomic"};
  Dl_info info{};
  uintptr_t offset = 0;
  if (record.code != nullptr && dladdr(record.code, &info) != 0) {
    // The call lies before the address that it returns to.
    offset =
        reinterpret_cast<uintptr_t>(record.code) - reinterpret_cast<uintptr_t>(info.dli_fbase) - 1;
  }
  return std::string("\t") + kNames[static_cast<int>(record.use)] + "\t" +
         std::to_string(record.block) + "\t" + std::to_string(record.thread) + "\t" +
         std::to_string(offset);
}

// A line: kernel, memory, then of each use its kind, block, thread and place in the library.
void report(uintptr_t address, const Record& now, const Record* before) {
  Shadow& own = shadow();
  const void* code_before = before == nullptr ? nullptr : before->code;
  if (!own.known.emplace(own.kernel, code_before, now.code).second) {
    return;
  }
  std::string memory = "global memory";
  for (const Shared& shared : own.shared) {
    if (address - shared.first < shared.bytes) {
      memory = "shared " + shared.name + " + " + std::to_string(address - shared.first);
    }
  }
  own.reports += own.kernel + "\t" + memory;
  if (before != nullptr) {
    own.reports += describe(*before);
  }
  own.reports += describe(now) + "\n";
}

void check(uintptr_t address, const Record& now, const Record& before) {
  if (before.time != 0 && !is_ordered(before, now)) {
    report(address, now, &before);
  }
}

void check(uintptr_t address, const Record& now, const Pair& before) {
  check(address, now, before[0]);
  check(address, now, before[1]);
}

void use_cell(Cell& cell, uintptr_t address, const Record& now, bool is_shared) {
  check(address, now, cell.store);
  if (now.use == Use::kStore || now.use == Use::kAtomic) {
    check(address, now, cell.loads);
  }
  if (now.use == Use::kStore || now.use == Use::kLoad) {
    check(address, now, cell.atomics);
  }
  if (now.use == Use::kStore) {
    check(address, now, cell.volatile_loads);
  } else if (is_shared && !cell.has_value) {
    report(address, now, nullptr);
  }
  switch (now.use) {
    case Use::kStore:
      cell.store = now;
      break;
    case Use::kLoad:
      keep(cell.loads, now);
      break;
    case Use::kVolatileLoad:
      keep(cell.volatile_loads, now);
      break;
    case Use::kAtomic:
      keep(cell.atomics, now);
      break;
  }
  cell.has_value = cell.has_value || now.use == Use::kStore || now.use == Use::kAtomic;
}

bool is_place(uintptr_t address) {
  for (const dim3* place : {&threadIdx, &blockIdx, &blockDim, &gridDim}) {
    if (address - reinterpret_cast<uintptr_t>(place) < sizeof(dim3)) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool is_on() { return shadow().is_on; }

void begin_launch(const char* kernel) {
  shadow().kernel = kernel;
  shadow().launched += shadow().is_on ? shadow().kernel + "\n" : "";
  shadow().global_pages.clear();
  shadow().time = 0;
}

void begin_block(uint32_t block) {
  Shadow& own = shadow();
  own.block = block;
  own.block_time = ++own.time;
  std::fill(std::begin(own.warp_time), std::end(own.warp_time), 0);
  own.shared.clear();
  own.shared_pages.clear();
}

void add_shared(const char* name, const void* address, size_t bytes) {
  shadow().shared.push_back({name, reinterpret_cast<uintptr_t>(address), bytes});
}

void order_block() { shadow().block_time = ++shadow().time; }

void order_warp(unsigned warp) { shadow().warp_time[warp] = ++shadow().time; }

void remember(unsigned thread, const void* address, size_t bytes, Use use, const void* code) {
  Shadow& own = shadow();
  const auto first = reinterpret_cast<uintptr_t>(address), last = first + bytes;
  if (is_place(first)) {
    return;
  }
  const bool is_shared =
      std::any_of(own.shared.begin(), own.shared.end(),
                  [&](const Shared& shared) { return first - shared.first < shared.bytes; });
  const Record now{own.time, own.block, static_cast<uint16_t>(thread), use, code};
  Pages& pages = is_shared ? own.shared_pages : own.global_pages;
  for (uintptr_t byte = first; byte < last;) {
    std::unique_ptr<Page>& page = pages[byte / kPageBytes];
    if (page == nullptr) {
      page = std::make_unique<Page>();
    }
    if (page->cell_bytes > 1 && (byte % kWordBytes != 0 || last - byte < kWordBytes)) {
      page->split();
    }
    use_cell(page->cells[byte % kPageBytes / page->cell_bytes], byte, now, is_shared);
    byte += page->cell_bytes;
  }
}

}  // namespace cuda_on_cpu::shadow

extern "C" {

// Starts or ends the watch over all kernels of this library.
__attribute__((visibility("default"))) void cuda_on_cpu_watch(int is_on) {
  using cuda_on_cpu::shadow::shadow;
  shadow().is_on = is_on != 0;
  shadow().reports.clear();
  shadow().launched.clear();
  shadow().known.clear();
}

// What was seen since the watch started; valid until it starts or ends.
__attribute__((visibility("default"))) const char* cuda_on_cpu_reports() {
  return cuda_on_cpu::shadow::shadow().reports.c_str();
}

// The kernels that ran since then, a line each launch; valid as long.
__attribute__((visibility("default"))) const char* cuda_on_cpu_launched() {
  return cuda_on_cpu::shadow::shadow().launched.c_str();
}

}  // extern "C"
