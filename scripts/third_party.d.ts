export function oracle(name: string): any;
export function tfjsCases(tf: any, seed: number): any;
