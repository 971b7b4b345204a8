// One step of beam search: from the continuations of every hypothesis of a picture, the best `width` are kept.
//
//   values, ids  [pictures, width, k]   each hypothesis' best next words: log-probability (falling) and word
//   sums         [pictures, width]      log-probability of each hypothesis so far; −1e30 marks a place not taken
//   lengths      [pictures, width]      words of a hypothesis that has ended, endseq included; 0 while it goes on
//   new_sums, parents (rows), words, new_lengths [pictures, width]   of those kept
//
// A hypothesis that has ended stays, with its score and the word pad. Order: falling score, then hypothesis, then rank, so ties
// are settled alike everywhere; a NaN comes first. Scores are divided by a length penalty: 1 (none), the length (average), or
// ((5 + length) / 6)^alpha (Wu and others 2016). One invocation owns one picture, whose candidates are few. There is no
// gradient: a choice is flat everywhere.
struct Params {
  pictures: u32,
  width: u32,
  k: u32,
  step: u32, // words of every hypothesis that goes on, this one included
  end: u32,
  minimum: u32, // endseq is not taken before so many words
  penalty: u32, // 0 none, 1 average, 2 Wu
  alpha: f32,
}

@group(0) @binding(0) var<storage, read> values: array<f32>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;
@group(0) @binding(3) var<storage, read> lengths: array<u32>;
@group(0) @binding(4) var<storage, read_write> new_sums: array<f32>;
@group(0) @binding(5) var<storage, read_write> parents: array<u32>;
@group(0) @binding(6) var<storage, read_write> words: array<u32>;
@group(0) @binding(7) var<storage, read_write> new_lengths: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

fn normalized(sum: f32, length: u32) -> f32 {
  if (params.penalty == 1u) {
    return sum / f32(length);
  }
  if (params.penalty == 2u) {
    return sum / pow((5.0 + f32(length)) / 6.0, params.alpha);
  }
  return sum;
}

// Numbers in rising order as whole numbers above 0: −0 is 0, and a NaN comes last, whatever its sign.
fn order(x: f32) -> u32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  let place = select(0x80000000u + magnitude, 0x80000000u - magnitude, bitcast<i32>(x) < 0);
  return select(place, 0xffffffffu, magnitude > 0x7f800000u);
}

@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= params.pictures) {
    return;
  }
  let first = id.x * params.width;
  var last = 0u;
  var last_place = 0u;
  for (var taken = 0u; taken < params.width; taken++) {
    var best = 0u; // in order()
    var best_place = 0xffffffffu;
    for (var place = 0u; place < params.width * params.k; place++) {
      let row = first + place / params.k;
      let rank = place % params.k;
      let ended = lengths[row] != 0u;
      let at = row * params.k + rank;
      if ((ended && rank > 0u) || (!ended && ids[at] == params.end && params.step < params.minimum)) {
        continue; // an ended one goes on in one way only: as it is
      }
      let sum = select(sums[row] + values[at], sums[row], ended);
      let score = order(normalized(sum, select(params.step, lengths[row], ended)));
      let after = taken == 0u || score < last || (score == last && place > last_place);
      if (after && score > best) {
        best = score;
        best_place = place;
      }
    }
    let out = first + taken;
    let row = first + best_place / params.k;
    let at = row * params.k + best_place % params.k;
    let ended = lengths[row] != 0u;
    new_sums[out] = select(sums[row] + values[at], sums[row], ended);
    parents[out] = row;
    words[out] = select(ids[at], 0u, ended);
    new_lengths[out] = select(select(0u, params.step, ids[at] == params.end), lengths[row], ended);
    last = best;
    last_place = best_place;
  }
}
