package a

const s = "nobody is left"
