-- Health of a serin.dev Rollout. Its status is compatible with kstatus; this adds Suspended.
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Serin has not looked at this generation yet" }
end
local words = {
  Healthy = "Healthy",
  Progressing = "Progressing",
  Paused = "Suspended",
  Degraded = "Degraded",
}
return {
  status = words[status.phase] or "Unknown",
  message = status.message or "",
}
